//! The job store on a real MongoDB-compatible server, with the real server and operator on a real cluster. The tests
//! run one after the other, for some take the database away from all.

#![allow(clippy::unwrap_used)]

mod common;
mod store {
    pub mod claims;
    pub mod database;
    pub mod outage;
    pub mod record;
    pub mod tls;
    pub mod writers;
}

#[test]
fn one_after_the_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        store::claims::indexes_are_made_once_and_again().await;
        store::claims::each_window_goes_to_one_of_many_who_claim_it_at_once().await;
        store::claims::a_claim_waits_no_longer_than_it_may().await;
        store::writers::two_replicas_tell_each_state_once().await;
        store::record::a_job_s_life_is_in_its_record().await;
        store::record::a_window_that_is_taken_in_the_database_is_passed_over().await;
        store::record::a_job_that_cannot_be_created_leaves_no_record().await;
        store::record::a_record_whose_job_is_gone_is_closed().await;
        store::record::a_record_behind_many_of_live_jobs_is_closed_too().await;
        store::outage::a_wrong_password_is_told_and_not_shown().await;
        store::outage::no_log_of_any_level_shows_the_password().await;
        if std::env::var_os("FOCUS_TEST_DATABASE_COMMAND").is_some() {
            store::outage::without_the_database_nothing_is_made_and_jobs_go_on().await;
            store::outage::the_next_server_writes_what_the_last_one_could_not().await;
            store::tls::a_database_behind_tls_is_used_and_one_of_another_authority_is_not().await;
        } else {
            println!("skipped: the database is not ours to stop (FOCUS_TEST_DATABASE_COMMAND is not set)");
        }
    }));
}
