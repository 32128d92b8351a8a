//! The indexes of the collection `jobs`.

use std::time::Duration;

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

/// Name of the index that keeps the windows of live jobs unique.
pub const WINDOW: &str = "live_window";

/// All of them. Making one that is there already changes nothing.
pub fn all() -> Vec<IndexModel> {
    // A record that was found without a window has none.
    let live = doc! { "live": true, "window": { "$exists": true } };
    vec![
        index(WINDOW, doc! { "namespace": 1, "window": 1 }, |options| {
            options.unique = Some(true);
            options.partial_filter_expression = Some(live);
        }),
        index("recent", doc! { "namespace": 1, "configuredAt": -1 }, |_| {}),
        index("slow_consumers", doc! { "namespace": 1, "phaseSeconds.consumer": -1 }, |_| {}),
        index("open", doc! { "namespace": 1, "open": 1, "configuredAt": 1 }, |options| {
            options.partial_filter_expression = Some(doc! { "open": true });
        }),
        index("expire", doc! { "expireAt": 1 }, |options| options.expire_after = Some(Duration::ZERO)),
    ]
}

fn index(name: &str, keys: Document, set: impl FnOnce(&mut IndexOptions)) -> IndexModel {
    let mut options = IndexOptions::default();
    options.name = Some(name.to_owned());
    set(&mut options);
    IndexModel::builder().keys(keys).options(options).build()
}
