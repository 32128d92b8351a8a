//! Who asks, and the token in a request. Pure.

use axum::http::{HeaderMap, header};

use super::digest::sha256;

/// Longest name, in characters.
const MAX_NAME: usize = 200;
/// Longest token that is looked at, bytes.
const MAX_TOKEN: usize = 16 << 10;

/// Who asks, proven by a token. It is among the extensions of each request that authentication has let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    name: String,
    admin: bool,
}

impl Caller {
    /// The caller of this name. What an annotation should not hold is replaced, and then a digest of the whole
    /// name is added, so that two callers never share a name.
    pub fn new(name: &str, admin: bool) -> Self {
        Self { name: sanitised(name), admin }
    }

    /// The name, as it stands in annotations.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the caller may end the jobs of others.
    pub fn is_admin(&self) -> bool {
        self.admin
    }
}

fn sanitised(name: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    if !name.is_empty() && name.trim() == name && name.chars().all(plain) && name.len() <= MAX_NAME {
        return name.to_owned();
    }
    let kept: String = name.chars().take(MAX_NAME).map(|c| if plain(c) { c } else { '?' }).collect();
    let digest: String = sha256(name.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}~{digest}", kept.trim())
}

/// The bearer token of a request; None when there is none, or none that could be right.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    // Two of them would leave open which one counts.
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    let well = !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(legal);
    (well && scheme.eq_ignore_ascii_case("bearer")).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn one_well_formed_bearer_token_is_taken() {
        for (values, token) in [
            (&["Bearer abc"][..], Some("abc")),
            (&["bearer  a.b-c_d~e+f/g== "], Some("a.b-c_d~e+f/g==")),
            (&[], None),
            (&["Bearer"], None),
            (&["Bearer "], None),
            (&["Basic abc"], None),
            (&["Bearer a b"], None),
            (&["Bearer a,b"], None),
            (&["Bearer \u{e9}"], None),
            (&["Bearer one", "Bearer two"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header");
                headers.append(header::AUTHORIZATION, value);
            }
            assert_eq!(bearer(&headers), token, "{values:?}");
        }
        let long = HeaderValue::from_str(&format!("Bearer {}", "a".repeat(MAX_TOKEN + 1))).expect("a header");
        assert_eq!(bearer(&HeaderMap::from_iter([(header::AUTHORIZATION, long)])), None);
    }

    #[test]
    fn two_callers_never_share_a_name() {
        let name = |text: &str| Caller::new(text, false).name().to_owned();
        let plain = "system:serviceaccount:fibre:viewer";
        assert_eq!(name(plain), plain);
        let long = "x".repeat(MAX_NAME);
        for (one, other) in [
            ("a\nb", "a?b"),
            ("a\nb", "a\tb"),
            ("\u{e9}", "\u{e8}"),
            ("a", "a "),
            ("", " "),
            (&format!("{long}1"), &format!("{long}2")),
        ] {
            assert_ne!(name(one), name(other), "{one:?} and {other:?}");
            assert!(name(one).len() < 256 && name(one).chars().all(|c| !c.is_control()), "{one:?}");
        }
    }
}
