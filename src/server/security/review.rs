//! Tokens that the API server knows: TokenReview.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;

use super::digest::{Digest, sha256};
use crate::server::cache::Cache;

/// Longest wait for the API server's word.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a good token is believed without asking again.
const GOOD: Duration = Duration::from_secs(60);
/// How long a bad one is refused without asking again.
const BAD: Duration = Duration::from_secs(5);
/// How many tokens are remembered, of each kind: a flood of bad ones does not push good ones out.
const REMEMBERED: usize = 1024;
/// How many are asked about at once.
const AT_ONCE: usize = 8;

/// Asks the API server whose token it is.
pub struct Reviewer {
    api: Api<TokenReview>,
    audiences: Vec<String>,
    good: Mutex<Cache<Digest, String>>,
    bad: Mutex<Cache<Digest, ()>>,
    places: Semaphore,
}

impl Reviewer {
    /// For tokens of one of `audiences`; of the API server's own if there are none.
    pub fn new(api: Api<TokenReview>, audiences: Vec<String>) -> Self {
        Self {
            api,
            audiences,
            good: Mutex::new(Cache::new(REMEMBERED, GOOD)),
            bad: Mutex::new(Cache::new(REMEMBERED, BAD)),
            places: Semaphore::new(AT_ONCE),
        }
    }

    /// The user whose token it is; None when it is nobody's.
    ///
    /// # Errors
    /// Says why the API server did not tell.
    pub async fn user(&self, token: &str) -> Result<Option<String>, String> {
        let key = sha256(token.as_bytes());
        if let Some(known) = self.remembered(&key) {
            return Ok(known);
        }
        let asked = tokio::time::timeout(ANSWER, async {
            let _place = self.places.acquire().await.map_err(|error| error.to_string())?;
            // Another request may have asked about the same token meanwhile.
            match self.remembered(&key) {
                Some(known) => Ok(known),
                None => self.ask(token, key).await,
            }
        });
        asked
            .await
            .unwrap_or_else(|_| Err(format!("no answer from the API server within {} s", ANSWER.as_secs())))
    }

    async fn ask(&self, token: &str, key: Digest) -> Result<Option<String>, String> {
        let audiences = (!self.audiences.is_empty()).then(|| self.audiences.clone());
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.api.create(&PostParams::default(), &review).await.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 403 => {
                "the server may not create TokenReviews: bind it a ClusterRole that may; the chart does with server.auth.mode=token-review".to_owned()
            }
            error => error.to_string(),
        })?;
        let user = answer.status.and_then(|status| user(status, &self.audiences));
        match &user {
            Some(name) => lock(&self.good).put(key, name.clone(), Instant::now()),
            None => lock(&self.bad).put(key, (), Instant::now()),
        }
        Ok(user)
    }

    fn remembered(&self, key: &Digest) -> Option<Option<String>> {
        let now = Instant::now();
        if let Some(name) = lock(&self.good).get(key, now) {
            return Some(Some(name.clone()));
        }
        lock(&self.bad).get(key, now).map(|()| None)
    }
}

/// Whom the API server names. One that does not say for which of the `asked` audiences the token is has looked
/// at none, and a token for somebody else is no token for us.
fn user(status: TokenReviewStatus, asked: &[String]) -> Option<String> {
    let audiences = status.audiences.unwrap_or_default();
    let for_us = asked.is_empty() || audiences.iter().any(|audience| asked.contains(audience));
    let authenticated = status.authenticated == Some(true) && for_us;
    status.user.and_then(|user| user.username).filter(|name| authenticated && !name.is_empty())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::authentication::v1::UserInfo;

    #[test]
    fn only_a_named_user_of_our_audience_is_believed() {
        let status = |authenticated, name: &str, audiences: &[&str]| TokenReviewStatus {
            authenticated,
            user: Some(UserInfo { username: Some(name.to_owned()), ..UserInfo::default() }),
            audiences: Some(audiences.iter().map(|&a| a.to_owned()).collect()),
            error: None,
        };
        for (status, asked, wanted) in [
            (status(Some(true), "ann", &[]), &[][..], Some("ann")),
            (status(Some(true), "ann", &["api"]), &[], Some("ann")),
            (status(Some(true), "ann", &["focus"]), &["focus", "other"], Some("ann")),
            (status(Some(true), "ann", &["api"]), &["focus"], None),
            (status(Some(true), "ann", &[]), &["focus"], None),
            (status(Some(false), "ann", &["focus"]), &["focus"], None),
            (status(None, "ann", &[]), &[], None),
            (status(Some(true), "", &[]), &[], None),
            (TokenReviewStatus { authenticated: Some(true), ..TokenReviewStatus::default() }, &[], None),
        ] {
            let asked: Vec<String> = asked.iter().map(|&a: &&str| a.to_owned()).collect();
            assert_eq!(user(status.clone(), &asked).as_deref(), wanted, "{status:?} {asked:?}");
        }
    }
}
