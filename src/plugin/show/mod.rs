//! How jobs are shown to people: pure functions from objects, screen and time to text.

pub mod bars;
pub mod events;
pub mod job;
pub mod list;
pub mod table;
