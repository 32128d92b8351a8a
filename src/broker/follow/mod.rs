//! Follows queues for their owners: one connection, the broker's events, and a memory of what they said.
//!
//! Whoever tracks a queue receives news of it and reads the [`book::Book`].

pub mod book;
pub mod handle;
mod look;
mod metrics;
mod watch;

pub use book::{BrokerState, QueueSeen};
pub use handle::{Broker, BrokerHandle};
pub use metrics::BrokerMetrics;
