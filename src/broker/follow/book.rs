//! What is known of each tracked queue: a memory without I/O, fed by events and by declarations.

use std::collections::{BTreeSet, HashMap, HashSet};

use k8s_openapi::jiff::Timestamp;

use crate::broker::events::BrokerEvent;

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
    /// A queue is in doubt: ask the broker for its true count, for an event cannot prove absence.
    Verify,
}

/// The memory of all tracked queues; `O` is whoever tracks one.
#[derive(Debug)]
pub struct Book<O> {
    queues: HashMap<String, Entry<O>>,
    channels: HashMap<String, HashSet<String>>,
    doubts: BTreeSet<String>,
}

#[derive(Debug)]
struct Entry<O> {
    owner: O,
    seen: QueueSeen,
    /// Grows with whatever is learned: an answer that was asked for at an older revision may be outdated.
    revision: u64,
}

impl<O> Default for Book<O> {
    fn default() -> Self {
        Self { queues: HashMap::new(), channels: HashMap::new(), doubts: BTreeSet::new() }
    }
}

impl<O: Clone> Book<O> {
    /// Tracks `queue` for `owner`; harmless when it is tracked already.
    pub fn track(&mut self, queue: &str, owner: O) {
        let new = || Entry { owner, seen: QueueSeen::default(), revision: 0 };
        self.queues.entry(queue.to_owned()).or_insert_with(new);
    }

    /// Forgets `queue`.
    pub fn untrack(&mut self, queue: &str) {
        self.queues.remove(queue);
        self.doubts.remove(queue);
        self.channels.retain(|_, queues| {
            queues.remove(queue);
            !queues.is_empty()
        });
    }

    /// What is known of `queue`, if it is tracked.
    pub fn seen(&self, queue: &str) -> Option<&QueueSeen> {
        self.queues.get(queue).map(|entry| &entry.seen)
    }

    /// Who tracks `queue`.
    pub fn owner(&self, queue: &str) -> Option<O> {
        self.queues.get(queue).map(|entry| entry.owner.clone())
    }

    /// Every tracked queue, those without a consumer first: a waiting job is looked at before a quiet one.
    pub fn tracked(&self) -> Vec<String> {
        let (mut waiting, quiet): (Vec<_>, Vec<_>) =
            self.queues.iter().partition::<Vec<_>, _>(|(_, entry)| entry.seen.consumers == 0);
        waiting.extend(quiet);
        waiting.into_iter().map(|(queue, _)| queue.clone()).collect()
    }

    /// Whether any tracked queue waits for a consumer.
    pub fn any_waiting(&self) -> bool {
        self.queues.values().any(|entry| entry.seen.consumers == 0)
    }

    /// The connection is gone: nothing is known any more.
    pub fn forget_all(&mut self) {
        self.channels.clear();
        self.doubts.clear();
        for entry in self.queues.values_mut() {
            entry.learn(QueueSeen::default());
        }
    }

    /// The broker answered: `queue` exists and has `consumers`. True when that is news.
    pub fn found(&mut self, queue: &str, consumers: u32, now: Timestamp) -> bool {
        let Some(entry) = self.queues.get_mut(queue) else { return false };
        let seen = &entry.seen;
        let exists_since = if seen.exists == Some(true) { seen.exists_since } else { Some(now) };
        let first = seen.consumers == 0 && consumers > 0;
        let consumer_since = if first { Some(now) } else { seen.consumer_since };
        entry.learn(QueueSeen { exists: Some(true), consumers, exists_since, consumer_since, refused: None })
    }

    /// The broker answered: `queue` does not exist. True when that is news.
    pub fn missing(&mut self, queue: &str) -> bool {
        let gone = QueueSeen { exists: Some(false), ..QueueSeen::default() };
        self.queues.get_mut(queue).is_some_and(|entry| entry.learn(gone))
    }

    /// The broker refused to declare `queue`.
    pub fn refused(&mut self, queue: &str, why: String) {
        if let Some(entry) = self.queues.get_mut(queue) {
            entry.learn(QueueSeen { refused: Some(why), ..QueueSeen::default() });
        }
    }

    /// How much is known of `queue`: to be read before a look at it.
    pub fn revision(&self, queue: &str) -> Option<u64> {
        self.queues.get(queue).map(|entry| entry.revision)
    }

    /// Takes in what a look at `queue`, begun at revision `before`, has `found`: its consumers, or None for no
    /// queue. True when that is news. None when something else was learned meanwhile: the answer may be older
    /// than that, and the queue is now in doubt.
    pub fn looked(&mut self, queue: &str, before: u64, found: Option<u32>, now: Timestamp) -> Option<bool> {
        if self.revision(queue).is_some_and(|revision| revision != before) {
            self.doubts.insert(queue.to_owned());
            return None;
        }
        Some(match found {
            Some(consumers) => self.found(queue, consumers, now),
            None => self.missing(queue),
        })
    }

    /// The queues in doubt, to be looked at; they are no longer in doubt.
    pub fn take_doubts(&mut self) -> Vec<String> {
        std::mem::take(&mut self.doubts).into_iter().collect()
    }

    /// Takes in an event of the broker and tells what follows from it.
    pub fn apply(&mut self, event: &BrokerEvent, now: Timestamp) -> Vec<Followup> {
        match event {
            BrokerEvent::ConsumerCreated { queue, channel } => self.consumer_created(queue, channel, now),
            BrokerEvent::ConsumerDeleted { queue } => self.doubt(queue),
            BrokerEvent::ChannelClosed { channel } => {
                let queues = self.channels.remove(channel).unwrap_or_default();
                queues.iter().flat_map(|queue| self.doubt(queue)).collect()
            }
            BrokerEvent::QueueCreated { queue } => {
                let consumers = self.seen(queue).map_or(0, |seen| seen.consumers);
                tell_if(self.found(queue, consumers, now), queue)
            }
            BrokerEvent::QueueDeleted { queue } => tell_if(self.missing(queue), queue),
        }
    }

    /// The first consumer is believed at once. Of a further one it is not known whether a look has counted it
    /// already, so the broker is asked.
    fn consumer_created(&mut self, queue: &str, channel: &Option<String>, now: Timestamp) -> Vec<Followup> {
        let Some(entry) = self.queues.get(queue) else { return Vec::new() };
        let first = entry.seen.consumers == 0;
        if let Some(channel) = channel {
            self.channels.entry(channel.clone()).or_default().insert(queue.to_owned());
        }
        if !first {
            return self.doubt(queue);
        }
        self.found(queue, 1, now);
        vec![Followup::Tell(queue.to_owned())]
    }

    fn doubt(&mut self, queue: &str) -> Vec<Followup> {
        let Some(entry) = self.queues.get_mut(queue) else { return Vec::new() };
        // A look that is under way may have been answered before this.
        entry.revision += 1;
        self.doubts.insert(queue.to_owned());
        vec![Followup::Verify]
    }
}

impl<O> Entry<O> {
    /// True when `seen` is news.
    fn learn(&mut self, seen: QueueSeen) -> bool {
        self.revision += 1;
        let news = self.seen != seen;
        self.seen = seen;
        news
    }
}

fn tell_if(news: bool, queue: &str) -> Vec<Followup> {
    if news { vec![Followup::Tell(queue.to_owned())] } else { Vec::new() }
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
            assert_eq!(book.apply(&event, T), vec![Followup::Verify], "{event:?}");
            assert_eq!(book.seen("q").map(|seen| seen.consumers), Some(1), "{event:?}");
            assert_eq!(book.take_doubts(), ["q"], "{event:?}");
        }
        assert_eq!(book.apply(&BrokerEvent::ChannelClosed { channel: "c1".into() }, T), vec![]);
    }

    #[test]
    fn a_further_consumer_is_counted_by_the_broker() {
        let mut book = book();
        book.found("q", 1, T);
        // The event of the very consumer that the look has counted.
        assert_eq!(book.apply(&created("c1"), T), vec![Followup::Verify]);
        let before = book.revision("q").unwrap_or_default();
        assert_eq!(book.looked("q", before, Some(1), T), Some(false));
        assert_eq!(book.apply(&created("c2"), T), vec![Followup::Verify]);
        let before = book.revision("q").unwrap_or_default();
        assert_eq!(book.looked("q", before, Some(2), T), Some(true));
    }

    #[test]
    fn an_answer_that_an_event_has_overtaken_is_not_believed() {
        let mut book = book();
        book.found("q", 0, T);
        let before = book.revision("q").unwrap_or_default();
        book.apply(&created("c1"), T);
        assert_eq!(book.looked("q", before, Some(0), T), None);
        assert_eq!(book.seen("q").map(|seen| seen.consumers), Some(1));
        assert_eq!(book.take_doubts(), ["q"]);
        assert_eq!(book.looked("forgotten", 7, Some(1), T), Some(false));
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
