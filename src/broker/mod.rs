//! RabbitMQ: where it is, connections that are kept alive, the queues of the jobs, and news of them. All AMQP of
//! the operator and the server.
//!
//! [`follow`] is the operator's side: it declares queues and remembers, from the broker's own events, which of
//! them exist and have a consumer. [`consume`] is the server's: it subscribes to queues as soon as they exist.

pub mod address;
pub mod connection;
pub mod consume;
pub mod events;
pub mod follow;
mod keep;
pub mod queues;
pub mod tls;

pub use address::{Address, BrokerArgs};
