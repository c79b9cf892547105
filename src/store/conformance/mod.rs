//! What every database behind the storage traits promises, a test case for each promise.
//!
//! The cases know the traits only. A database takes part by a [`Fixture`] that opens it empty, and by its line at the
//! end of this file.

mod alerts;
mod audit;
mod decisions;
mod directory;
mod entries;
mod ledger;
mod links;
mod listing;
mod notes;
mod rem;
mod rem_find;
mod rem_keep;
mod rem_list;
mod spend;
pub(super) mod usage;

use super::Stores;

/// An empty database of one kind, which lasts as long as this value.
pub(super) trait Fixture: Sized {
    async fn open() -> Self;
    fn stores(&self) -> Stores;
}

macro_rules! conformance {
    ($database:ident, $fixture:ty: $($module:ident::{$($case:ident),+ $(,)?})+) => {
        mod $database {
            use super::Fixture;

            $($(
                #[tokio::test]
                async fn $case() {
                    let fixture = <$fixture>::open().await;
                    super::$module::$case(&fixture.stores()).await;
                }
            )+)+
        }
    };
}

/// The cases, for one database.
macro_rules! cases {
    ($database:ident, $fixture:ty) => {
        conformance! { $database, $fixture:
            entries::{
                an_entry_comes_back_with_every_field,
                a_point_comes_back_with_every_field,
                a_body_of_many_megabytes_comes_back_whole,
                a_tenant_reaches_nothing_of_another,
                applying_the_same_writes_twice_changes_nothing,
                a_second_put_of_an_entry_leaves_the_first_and_adds_its_points,
                deleting_an_entry_deletes_its_points_and_nothing_else,
                a_point_without_its_entry_is_ignored_and_the_batch_goes_on,
                a_point_of_another_entry_or_tenant_is_not_stored_with_a_put,
                writes_are_applied_in_order,
                a_point_before_its_entry_in_a_batch_is_ignored,
                thousands_of_writes_in_one_batch_are_all_made,
                an_entry_expires_at_its_time_and_not_before,
                purging_keeps_what_was_not_deleted,
            }
            listing::{
                a_scan_yields_each_live_entry_once_with_its_points_in_order,
                a_scan_is_complete_and_without_duplicates_while_others_write,
                a_listing_shows_the_newest_first_page_by_page,
                a_listing_is_complete_and_without_duplicates_while_others_write,
                a_listing_shows_what_passes_every_filter,
                a_search_finds_text_inside_prompts_and_knows_no_wildcards,
                loading_yields_those_asked_for_that_are_there_with_their_points,
                an_export_yields_everything_of_every_entry_page_by_page,
            }
            ledger::{
                a_row_comes_back_with_every_field,
                a_row_with_nothing_optional_comes_back,
                a_request_has_exactly_one_row_however_often_it_is_written,
                values_beyond_63_bits_are_clamped_and_do_not_fail_the_row,
                recent_rows_are_those_of_the_tenant_newest_first,
                hits_on_an_entry_are_those_of_its_tenant_newest_first,
                the_ledger_is_read_oldest_first_page_by_page,
                thousands_of_rows_in_one_batch_are_all_there,
                a_tenant_keeps_its_creation_time_and_gets_the_new_flag,
            }
            links::{
                a_link_moves_the_point_notes_the_guards_and_sets_the_tags,
                a_link_of_the_last_point_deletes_the_entry_it_left,
                a_link_to_an_entry_that_is_gone_leaves_the_point_where_it_is,
                links_and_drops_reach_nothing_of_another_tenant,
                a_link_replayed_changes_nothing,
                a_batch_that_puts_and_then_links_changes_nothing_when_replayed,
                a_link_to_the_entry_it_comes_from_only_notes_the_guards_and_the_tags,
                a_merge_moves_all_points_and_deletes_the_entry,
                a_merge_replayed_changes_nothing,
                a_merge_of_an_entry_with_itself_changes_nothing,
                dropping_the_last_point_deletes_the_entry,
                dropping_a_point_that_moved_on_leaves_it_there,
            }
            decisions::{
                a_decision_comes_back_with_every_field,
                a_decision_that_is_there_stays,
                a_label_is_set_replaced_and_ignored_without_its_decision,
                decisions_written_twice_change_nothing,
                decisions_are_read_oldest_first_page_by_page,
                old_decisions_are_forgotten_a_few_at_a_time,
                what_was_learnt_is_replaced_for_its_tenant_and_model_only,
                forgetting_a_tenant_takes_its_decisions_and_what_was_learnt_and_nothing_else,
            }
            audit::{
                an_audit_row_comes_back_with_every_field,
                a_change_and_its_audit_row_are_stored_together,
                a_second_audit_row_with_the_same_id_is_ignored,
                the_trail_is_read_newest_first_page_by_page,
                the_audit_is_read_oldest_first_page_by_page,
                an_audit_row_has_odd_text_back,
                the_chain_has_every_row_once_in_the_order_it_was_recorded,
            }
            directory::{
                a_directory_comes_back_with_every_field,
                a_change_made_from_an_old_number_does_nothing,
                what_is_put_again_is_replaced_and_keeps_when_it_was_used,
                a_deleted_tenant_takes_its_keys_along_and_nothing_else,
                the_time_of_use_only_goes_forward_and_is_no_change,
            }
            alerts::{
                an_alert_is_raised_once_with_a_delivery_for_each_channel,
                a_claimed_delivery_is_nobody_elses_until_the_claim_runs_out,
                what_became_of_a_delivery_is_noted_and_what_was_sent_stays_sent,
                alerts_are_listed_newest_first_of_one_tenant_or_all,
                old_alerts_are_forgotten_unless_they_are_still_on_their_way,
            }
            spend::{
                spend_is_summed_by_slot_key_model_and_tags,
                the_spend_of_all_is_that_of_each_and_of_callers_that_are_not_known,
                a_request_is_unpriced_if_it_was_billed_and_nobody_knows_how_much,
            }
            usage::{
                reports_say_what_rows_and_corrections_say,
                a_correction_is_made_of_what_the_ledger_says_and_counts_in_what_was_spent,
                rated_pages_have_the_rows_of_a_time_and_what_the_ledger_says_of_them,
                sums_beyond_63_bits_stay_there_and_the_report_is_made,
            }
            notes::{
                a_note_is_written_replaced_and_taken_away,
                a_note_written_once_stays,
                a_note_is_swapped_only_for_what_stands_there,
                notes_are_found_by_the_beginning_of_their_names,
            }
        }
    };
}

/// The cases about REM data, whose texts a layer that seals may refuse to keep.
macro_rules! rem_cases {
    ($database:ident, $fixture:ty) => {
        conformance! { $database, $fixture:
            rem::{
                a_row_comes_back_with_every_field,
                names_are_found_in_every_form_in_the_order_asked,
                nobody_sees_rows_of_another_tenant_or_key,
                a_row_of_another_owner_is_not_replaced_hidden_or_purged,
                writes_made_twice_change_nothing,
                a_renamed_row_is_found_under_its_new_name_only,
                a_hidden_row_is_found_by_nothing_and_comes_back_when_it_is_put,
                a_purged_row_leaves_no_ghost,
                names_may_be_long_and_of_any_letters,
                a_row_whose_entry_is_not_stored_is_not_written,
                a_batch_is_applied_in_order,
            }
            rem_find::{
                similar_names_are_those_that_reach_the_threshold,
                similar_names_are_all_found_whatever_the_threshold,
                the_nearest_rows_come_best_first_with_ties_by_name_and_id,
                the_nearest_rows_are_exactly_as_many_as_there_are_under_any_filter,
                the_nearest_rows_are_those_of_this_moment,
                a_vector_that_is_no_direction_is_never_compared,
                words_are_found_in_names_and_texts_those_with_all_of_them_first,
                conditions_mean_what_they_say,
            }
            rem_keep::{
                edges_are_found_from_both_ends_heaviest_first,
                edges_are_linked_from_rows_of_their_owner_and_requests_of_their_key,
                edges_of_one_type_or_of_all_others_are_taken_away,
                requests_are_rows_for_the_key_that_made_them,
                a_row_goes_with_its_entry_however_that_is_deleted,
                entries_without_a_row_are_told_page_by_page,
                rows_without_a_vector_are_told_oldest_change_first,
                what_traffic_left_and_what_was_hidden_is_forgotten_when_it_is_old,
                a_tenant_or_an_owner_is_forgotten_and_nothing_else,
                an_export_put_into_an_empty_store_is_the_same,
            }
            rem_list::{
                of_names_that_many_rows_have_the_first_are_read,
                rows_are_listed_by_id_within_what_the_caller_sees,
            }
        }
    };
}

cases!(sqlite, crate::store::sqlite::files::TempStore);
cases!(postgres, crate::store::postgres::tests::TempDatabase);
cases!(sealed_sqlite, crate::store::sealed::tests::SealedOver<crate::store::sqlite::files::TempStore>);
cases!(sealed_postgres, crate::store::sealed::tests::SealedOver<crate::store::postgres::tests::TempDatabase>);

rem_cases!(rem_sqlite, crate::store::sqlite::files::TempStore);
rem_cases!(rem_postgres, crate::store::postgres::tests::TempDatabase);
