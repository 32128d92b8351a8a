//! What the texts of queries and pages speak of.

use std::collections::BTreeSet;

/// Prefixes of the metrics of this project, of what rules make of them, and of Prometheus' own that they use.
const OURS: [&str; 4] = ["focus_", "process_", "namespace:focus_", "up"];

/// The names in `text`: words of the letters that a metric's name may have, each with the place where it ends.
fn words(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut rest = 0;
    std::iter::from_fn(move || {
        let begin = rest + text[rest..].find(in_name)?;
        let end = text[begin..].find(|c| !in_name(c)).map_or(text.len(), |length| begin + length);
        rest = end;
        Some((&text[begin..end], end))
    })
}

/// Every selector of a metric in `expr`, with its matchers and without its window.
pub fn selectors(expr: &str) -> BTreeSet<String> {
    let is_ours = |word: &str| {
        OURS.iter().any(|prefix| if *prefix == "up" { word == "up" } else { word.starts_with(prefix) })
    };
    let found = words(expr).filter(|(word, _)| is_ours(word));
    found
        .map(|(word, end)| {
            let matchers = expr[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
            matchers.map_or_else(|| word.to_owned(), |(matchers, _)| format!("{word}{{{matchers}}}"))
        })
        .collect()
}

/// The metrics of `names` that no word of `texts` is, nor a word that a histogram makes of them.
pub fn unmentioned(names: BTreeSet<String>, texts: &[String]) -> Vec<String> {
    let words: BTreeSet<&str> = texts.iter().flat_map(|text| words(text)).map(|(word, _)| word).collect();
    let mentioned = |name: &String| {
        ["", "_bucket", "_count", "_sum"].iter().any(|end| words.contains(format!("{name}{end}").as_str()))
    };
    names.into_iter().filter(|name| !mentioned(name)).collect()
}

#[test]
fn selectors_are_found_with_their_matchers() {
    let expr = "sum by (focus) (rate(focus_a_total{x=\"1\", y=~\"a|b\"}[5m])) / (namespace:focus_b:ratio1h > 0) \
                and up{job=\"j\"} == 1 or group(upper)";
    let wanted = ["focus_a_total{x=\"1\", y=~\"a|b\"}", "namespace:focus_b:ratio1h", "up{job=\"j\"}"];
    assert_eq!(selectors(expr), wanted.map(str::to_owned).into());
}

#[test]
fn a_longer_name_does_not_mention_a_shorter() {
    let names = ["focus_jobs", "focus_lag_seconds", "focus_up"].map(str::to_owned);
    let texts = ["sum(focus_jobs_not_ready)".to_owned(), "`focus_lag_seconds_bucket`, focus_up.".to_owned()];
    assert_eq!(unmentioned(names.into(), &texts), ["focus_jobs"]);
}
