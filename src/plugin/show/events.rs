//! Events of a job and of its analyzer's pod, in the order in which they happened. Pure.

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::table::{self, Long, Text};
use crate::api::timeline::seconds_between;
use crate::plugin::screen::{Screen, Tone, age};

/// One Event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventView {
    /// When it last happened (RFC 3339).
    pub at: Timestamp,
    /// How often it has happened.
    pub count: i32,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub type_: String,
    /// CamelCase cause.
    pub reason: String,
    /// Kind of the object that it is about: `FocusJob` or `Pod`.
    pub about: String,
    /// A sentence.
    pub message: String,
}

impl EventView {
    fn of(event: &Event) -> Option<Self> {
        let series = event.series.as_ref();
        let at = series
            .and_then(|series| series.last_observed_time.as_ref().map(|at| at.0))
            .or_else(|| event.last_timestamp.as_ref().map(|at| at.0))
            .or_else(|| event.event_time.as_ref().map(|at| at.0))
            .or_else(|| event.first_timestamp.as_ref().map(|at| at.0))
            .or_else(|| event.metadata.creation_timestamp.as_ref().map(|at| at.0))?;
        Some(Self {
            at,
            count: series.and_then(|series| series.count).or(event.count).unwrap_or(1).max(1),
            type_: event.type_.clone().unwrap_or_else(|| "Normal".to_owned()),
            reason: event.reason.clone().unwrap_or_default(),
            about: event.involved_object.kind.clone().unwrap_or_default(),
            message: event.message.clone().unwrap_or_default().trim().to_owned(),
        })
    }
}

/// The Events that are about one of the objects with these uids (an earlier job of the same name is another), the
/// oldest first.
pub fn about(events: &[Event], uids: &[&str]) -> Vec<EventView> {
    let ours = |event: &&Event| {
        event.involved_object.uid.as_deref().is_none_or(|uid| uids.is_empty() || uids.contains(&uid))
    };
    let mut views: Vec<_> = events.iter().filter(ours).filter_map(EventView::of).collect();
    views.sort_by_key(|event| event.at);
    views
}

/// The newest `most` Events as a table.
pub fn draw(events: &[EventView], most: usize, now: Timestamp, screen: &Screen) -> String {
    let shown = &events[events.len().saturating_sub(most)..];
    let rows = shown.iter().map(|event| {
        let tone = if event.type_ == "Warning" { Tone::Bad } else { Tone::Plain };
        let mut ago = age(seconds_between(event.at, now));
        if event.count > 1 {
            ago = format!("{ago} (x{})", event.count);
        }
        vec![
            ago.into(),
            Text::new(&event.type_, tone),
            event.reason.clone().into(),
            event.about.clone().into(),
            event.message.clone().into(),
        ]
    });
    table::draw(screen, 2, &["AGE", "TYPE", "REASON", "ABOUT", "MESSAGE"], rows.collect(), Long::Wrap)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::plugin::screen::tests::plain;

    fn event(changes: serde_json::Value) -> Event {
        let mut event = json!({
            "metadata": {"name": "e", "creationTimestamp": "2030-01-01T00:00:09Z"},
            "involvedObject": {"kind": "FocusJob", "name": "view", "uid": "1"},
            "type": "Warning", "reason": "NoConsumer", "message": " late\n"
        });
        event.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn an_event_s_time_is_the_newest_that_is_known() {
        for (changes, second, count) in [
            (json!({}), 9, 1),
            (json!({"firstTimestamp": "2030-01-01T00:00:01Z"}), 1, 1),
            (json!({"eventTime": "2030-01-01T00:00:02.000000Z"}), 2, 1),
            (
                json!({"firstTimestamp": "2030-01-01T00:00:01Z", "lastTimestamp": "2030-01-01T00:00:03Z", "count": 4}),
                3,
                4,
            ),
            (
                json!({"eventTime": "2030-01-01T00:00:02.000000Z",
                       "series": {"count": 7, "lastObservedTime": "2030-01-01T00:00:05.000000Z"}}),
                5,
                7,
            ),
        ] {
            let view = EventView::of(&event(changes.clone())).unwrap();
            let at: Timestamp = format!("2030-01-01T00:00:0{second}Z").parse().unwrap();
            assert_eq!((view.at, view.count, view.message.as_str()), (at, count, "late"), "{changes}");
        }
    }

    #[test]
    fn only_this_job_s_events_in_their_order() {
        let at = |s: i64, uid: &str, reason: &str| {
            event(json!({"lastTimestamp": format!("2030-01-01T00:00:0{s}Z"), "reason": reason,
                         "involvedObject": {"kind": "FocusJob", "uid": uid}}))
        };
        let all = [at(5, "1", "B"), at(3, "1", "A"), at(4, "other", "C")];
        let found = about(&all, &["1"]);
        assert_eq!(found.iter().map(|e| e.reason.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        let now = "2030-01-01T00:01:05Z".parse().unwrap();
        let drawn = draw(&found, 1, now, &plain(None));
        assert!(drawn.contains("60s") && drawn.contains('B') && !drawn.contains("A  "), "\n{drawn}");
    }
}
