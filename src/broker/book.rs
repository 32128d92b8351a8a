//! What is known of each tracked queue: a memory without I/O, fed by events and by declarations.

use std::collections::{HashMap, HashSet};

use k8s_openapi::jiff::Timestamp;

use super::events::BrokerEvent;

/// What is known of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSeen {
    /// Some(true): there; Some(false): not there; None: not known, as before the first look or after the
    /// connection was lost.
    pub exists: Option<bool>,
    /// Consumers attached, where it exists.
    pub consumers: u32,
    /// When the queue was last learned to exist, having not been known to.
    pub exists_since: Option<Timestamp>,
    /// When a consumer was last learned of, there having been none.
    pub consumer_since: Option<Timestamp>,
    /// Why the broker refused the queue, such as a declaration that disagrees with an existing queue.
    pub refused: Option<String>,
}

/// Whether the broker can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerState {
    /// Not yet, or no longer; the text says why.
    Disconnected(String),
    /// It can.
    Connected,
}

/// What an event asks to be done besides remembering it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followup {
    /// Tell those who track this queue.
    Tell(String),
    /// Ask the broker for the true count of this queue: an event cannot prove absence.
    Verify(String),
}

/// The memory of all tracked queues; `O` is whoever tracks one.
#[derive(Debug)]
pub struct Book<O> {
    queues: HashMap<String, (O, QueueSeen)>,
    channels: HashMap<String, HashSet<String>>,
}

impl<O> Default for Book<O> {
    fn default() -> Self {
        Self { queues: HashMap::new(), channels: HashMap::new() }
    }
}

impl<O: Clone> Book<O> {
    /// Tracks `queue` for `owner`; harmless when it is tracked already.
    pub fn track(&mut self, queue: &str, owner: O) {
        self.queues.entry(queue.to_owned()).or_insert_with(|| (owner, QueueSeen::default()));
    }

    /// Forgets `queue`.
    pub fn untrack(&mut self, queue: &str) {
        self.queues.remove(queue);
        self.channels.retain(|_, queues| {
            queues.remove(queue);
            !queues.is_empty()
        });
    }

    /// What is known of `queue`, if it is tracked.
    pub fn seen(&self, queue: &str) -> Option<&QueueSeen> {
        self.queues.get(queue).map(|(_, seen)| seen)
    }

    /// Who tracks `queue`.
    pub fn owner(&self, queue: &str) -> Option<O> {
        self.queues.get(queue).map(|(owner, _)| owner.clone())
    }

    /// Every tracked queue, those without a consumer first: a waiting job is looked at before a quiet one.
    pub fn tracked(&self) -> Vec<String> {
        let (mut waiting, quiet): (Vec<_>, Vec<_>) =
            self.queues.iter().partition::<Vec<_>, _>(|(_, (_, seen))| seen.consumers == 0);
        waiting.extend(quiet);
        waiting.into_iter().map(|(queue, _)| queue.clone()).collect()
    }

    /// Whether any tracked queue waits for a consumer.
    pub fn any_waiting(&self) -> bool {
        self.queues.values().any(|(_, seen)| seen.consumers == 0)
    }

    /// The connection is gone: nothing is known any more.
    pub fn forget_all(&mut self) {
        self.channels.clear();
        for (_, seen) in self.queues.values_mut() {
            *seen = QueueSeen::default();
        }
    }

    /// The broker answered: `queue` exists and has `consumers`. True when that is news.
    pub fn found(&mut self, queue: &str, consumers: u32, now: Timestamp) -> bool {
        let Some((_, seen)) = self.queues.get_mut(queue) else { return false };
        let before = seen.clone();
        if seen.exists != Some(true) {
            seen.exists_since = Some(now);
        }
        if seen.consumers == 0 && consumers > 0 {
            seen.consumer_since = Some(now);
        }
        *seen = QueueSeen { exists: Some(true), consumers, refused: None, ..seen.clone() };
        *seen != before
    }

    /// The broker answered: `queue` does not exist. True when that is news.
    pub fn missing(&mut self, queue: &str) -> bool {
        let Some((_, seen)) = self.queues.get_mut(queue) else { return false };
        let gone = QueueSeen { exists: Some(false), ..QueueSeen::default() };
        let news = *seen != gone;
        *seen = gone;
        news
    }

    /// The broker refused to declare `queue`.
    pub fn refused(&mut self, queue: &str, why: String) {
        if let Some((_, seen)) = self.queues.get_mut(queue) {
            *seen = QueueSeen { refused: Some(why), ..QueueSeen::default() };
        }
    }

    /// Takes in an event of the broker and tells what follows from it.
    pub fn apply(&mut self, event: &BrokerEvent, now: Timestamp) -> Vec<Followup> {
        match event {
            BrokerEvent::ConsumerCreated { queue, channel } => {
                let Some((_, seen)) = self.queues.get(queue) else { return Vec::new() };
                let consumers = seen.consumers + 1;
                if let Some(channel) = channel {
                    self.channels.entry(channel.clone()).or_default().insert(queue.clone());
                }
                self.found(queue, consumers, now);
                vec![Followup::Tell(queue.clone())]
            }
            BrokerEvent::ConsumerDeleted { queue } => self.verify(queue),
            BrokerEvent::ChannelClosed { channel } => {
                let queues = self.channels.remove(channel).unwrap_or_default();
                queues.iter().flat_map(|queue| self.verify(queue)).collect()
            }
            BrokerEvent::QueueCreated { queue } => {
                let consumers = self.seen(queue).map_or(0, |seen| seen.consumers);
                if self.found(queue, consumers, now) {
                    vec![Followup::Tell(queue.clone())]
                } else {
                    Vec::new()
                }
            }
            BrokerEvent::QueueDeleted { queue } => {
                if self.missing(queue) {
                    vec![Followup::Tell(queue.clone())]
                } else {
                    Vec::new()
                }
            }
        }
    }

    fn verify(&self, queue: &str) -> Vec<Followup> {
        if self.queues.contains_key(queue) { vec![Followup::Verify(queue.to_owned())] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timestamp = Timestamp::UNIX_EPOCH;

    fn book() -> Book<u8> {
        let mut book = Book::default();
        book.track("q", 1);
        book
    }

    fn created(channel: &str) -> BrokerEvent {
        BrokerEvent::ConsumerCreated { queue: "q".into(), channel: Some(channel.into()) }
    }

    #[test]
    fn a_created_consumer_is_news_at_once() {
        let mut book = book();
        assert_eq!(book.apply(&created("c1"), T), vec![Followup::Tell("q".into())]);
        let seen = book.seen("q").cloned().unwrap_or_default();
        assert_eq!((seen.exists, seen.consumers, seen.consumer_since), (Some(true), 1, Some(T)));
    }

    #[test]
    fn absence_is_verified_and_never_believed() {
        let mut book = book();
        book.apply(&created("c1"), T);
        for event in [
            BrokerEvent::ConsumerDeleted { queue: "q".into() },
            BrokerEvent::ChannelClosed { channel: "c1".into() },
        ] {
            assert_eq!(book.apply(&event, T), vec![Followup::Verify("q".into())], "{event:?}");
            assert_eq!(book.seen("q").map(|seen| seen.consumers), Some(1), "{event:?}");
        }
        assert_eq!(book.apply(&BrokerEvent::ChannelClosed { channel: "c1".into() }, T), vec![]);
    }

    #[test]
    fn the_queue_s_end_is_news_once() {
        let mut book = book();
        book.found("q", 1, T);
        let gone = BrokerEvent::QueueDeleted { queue: "q".into() };
        assert_eq!(book.apply(&gone, T), vec![Followup::Tell("q".into())]);
        assert_eq!(book.apply(&gone, T), vec![]);
        assert_eq!(book.seen("q").and_then(|seen| seen.exists), Some(false));
    }

    #[test]
    fn events_of_other_queues_leave_no_trace() {
        let mut book = book();
        for event in [
            BrokerEvent::ConsumerCreated { queue: "other".into(), channel: Some("c".into()) },
            BrokerEvent::QueueCreated { queue: "other".into() },
            BrokerEvent::QueueDeleted { queue: "other".into() },
            BrokerEvent::ConsumerDeleted { queue: "other".into() },
        ] {
            assert_eq!(book.apply(&event, T), vec![], "{event:?}");
        }
        assert!(book.channels.is_empty());
        assert_eq!(book.tracked(), vec!["q".to_owned()]);
    }

    #[test]
    fn a_lost_connection_makes_everything_unknown() {
        let mut book = book();
        book.found("q", 2, T);
        book.forget_all();
        assert_eq!(book.seen("q"), Some(&QueueSeen::default()));
    }
}
