use super::*;
use crate::domain::balance::MetricValue;
use crate::domain::event::ThresholdEvent;
use crate::domain::rule::{Metric, Severity};

fn at(seconds: i64) -> Time {
    Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn key(division: u64) -> AlertKey {
    AlertKey { account: "acme".into(), division: Some(division), rule: "funds".into() }
}

fn threshold(division: u64, kind: TransitionKind) -> EventSubject {
    EventSubject::Threshold(ThresholdEvent {
        key: key(division),
        division_name: None,
        kind,
        level: Severity::Warning,
        since: at(0),
        metric: Metric::AvailableFunds,
        value: MetricValue::Unlimited,
        within: None,
        threshold: None,
        breakdown: None,
        next_reminder: None,
        forecast: None,
        chart: None,
    })
}

fn names(names: &[&str]) -> BTreeSet<Name> {
    names.iter().map(|name| Name::from(*name)).collect()
}

/// Queues an event of division 1 for these notifiers, and returns its id.
fn enqueue(queue: &mut DeliveryQueue, seconds: i64, kind: TransitionKind, recipients: &[&str]) -> String {
    queue.enqueue(NewEvent::notice(threshold(1, kind), at(seconds), names(recipients)));
    queue.events().last().map(|queued| queued.event.id.clone()).unwrap_or_default()
}

fn times_pending(queue: &DeliveryQueue, notifier: &str) -> Vec<i64> {
    queue.pending_for(notifier).map(|(event, _)| (event.at - at(0)).num_seconds()).collect()
}

fn hand_over(queue: &mut DeliveryQueue, ids: Option<&BTreeSet<String>>) -> usize {
    let handover = Handover { notifier: &"slack".into(), fallback: &"mail".into(), error: "down", ids };
    queue.hand_over(handover, |key, name| Some(format!("{}@{name}", key.label())))
}

#[test]
fn an_event_without_recipients_is_not_queued() {
    let mut queue = DeliveryQueue::default();
    enqueue(&mut queue, 0, TransitionKind::Raised, &[]);
    assert!(queue.is_empty() && queue.len() == 0);
}

#[test]
fn events_of_one_moment_have_different_ids() {
    let mut queue = DeliveryQueue::default();
    let kinds = [TransitionKind::Raised, TransitionKind::Escalated, TransitionKind::Eased];
    let ids = kinds.map(|kind| enqueue(&mut queue, 0, kind, &["slack"]));
    let first = format!("funds/acme/1@{}", at(0).timestamp_micros());
    assert_eq!(ids, [first.clone(), format!("{first}.2"), format!("{first}.3")]);
}

#[test]
fn a_planned_time_is_kept_only_if_it_differs() {
    let mut queue = DeliveryQueue::default();
    for evaluated_at in [at(5), at(4)] {
        let new = NewEvent::notice(threshold(1, TransitionKind::Raised), at(5), names(&["slack"]));
        queue.enqueue(NewEvent { evaluated_at: Some(evaluated_at), ..new });
    }
    let planned: Vec<_> = queue.iter().map(|queued| queued.event.evaluated_at).collect();
    assert_eq!(planned, [None, Some(at(4))]);
}

#[test]
fn a_reminder_is_dropped_when_a_newer_event_is_queued() {
    let mut queue = DeliveryQueue::default();
    enqueue(&mut queue, 0, TransitionKind::Raised, &["slack"]);
    let reminder = enqueue(&mut queue, 1, TransitionKind::Reminder, &["slack"]);
    assert!(queue.mark_failing("slack", &[reminder].into(), at(1)));
    enqueue(&mut queue, 2, TransitionKind::Reminder, &["slack"]);
    assert_eq!(times_pending(&queue, "slack"), [0, 2]);
    let failing: Vec<_> = queue.pending_for("slack").map(|(_, delivery)| delivery.failing_since).collect();
    assert_eq!(failing, [None, Some(at(1))], "the newer event has failed for as long");
    queue.enqueue(NewEvent::notice(threshold(2, TransitionKind::Raised), at(3), names(&["slack"])));
    assert_eq!(times_pending(&queue, "slack"), [0, 2, 3], "events of other alerts drop nothing");
}

#[test]
fn the_oldest_and_the_newest_events_of_an_alert_are_kept() {
    let mut queue = DeliveryQueue::default();
    for seconds in 0..14 {
        let kind = if seconds % 2 == 0 { TransitionKind::Escalated } else { TransitionKind::Eased };
        enqueue(&mut queue, seconds, kind, if seconds == 3 { &["slack", "mail"] } else { &["slack"] });
    }
    assert_eq!(times_pending(&queue, "slack"), [0, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    let omitted: Vec<u32> = queue.pending_for("slack").map(|(_, delivery)| delivery.omitted).collect();
    assert_eq!(omitted, [0, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(times_pending(&queue, "mail"), [3], "the limit is one of each notifier");
    assert_eq!(queue.len(), 11);
}

#[test]
fn events_are_handed_over_once_and_continue_the_fallbacks_thread() {
    let mut queue = DeliveryQueue::default();
    let first = enqueue(&mut queue, 0, TransitionKind::Raised, &["slack"]);
    enqueue(&mut queue, 1, TransitionKind::Escalated, &["slack", "mail"]);
    enqueue(&mut queue, 2, TransitionKind::Eased, &["slack"]);
    assert_eq!(hand_over(&mut queue, Some(&[first].into())), 1);
    assert_eq!(hand_over(&mut queue, None), 1, "the event at 1 is pending for mail anyway");
    assert_eq!(hand_over(&mut queue, None), 0);
    let deliveries: Vec<_> = queue.pending_for("mail").map(|(_, delivery)| delivery.clone()).collect();
    assert_eq!(deliveries[0].in_place_of, Some(("slack".into(), "down".to_owned())));
    assert_eq!(deliveries[0].thread.as_deref(), Some("funds/acme/1@mail"));
    assert_eq!(deliveries[1].in_place_of, None);
    assert_eq!(times_pending(&queue, "slack"), [0, 1, 2], "they stay pending for the notifier itself");
}

#[test]
fn excluded_notifiers_are_no_fallback() {
    let mut queue = DeliveryQueue::default();
    enqueue(&mut queue, 0, TransitionKind::Raised, &["slack"]);
    queue.exclude(&key(2), &names(&["mail"]));
    queue.exclude(&key(1), &names(&["pager"]));
    assert_eq!(hand_over(&mut queue, None), 1, "mail was excluded from another alert");
    let mut queue = DeliveryQueue::default();
    enqueue(&mut queue, 0, TransitionKind::Raised, &["slack"]);
    queue.exclude(&key(1), &names(&["mail"]));
    assert_eq!(hand_over(&mut queue, None), 0);
}

#[test]
fn an_event_for_single_recipients_has_no_fallback() {
    let mut queue = DeliveryQueue::default();
    let id = enqueue(&mut queue, 0, TransitionKind::Raised, &["slack"]);
    let ids: BTreeSet<String> = [id].into();
    queue.mark_failing("slack", &ids, at(0));
    queue.mark_delivered("slack", &ids, None, &["a".to_owned(), "b".to_owned()]);
    let delivery = queue.pending_for("slack").next().unwrap().1;
    assert_eq!(delivery.remaining_recipients.as_deref(), Some(["a".to_owned(), "b".to_owned()].as_slice()));
    assert_eq!(delivery.failing_since, None);
    assert_eq!(hand_over(&mut queue, None), 0);
    queue.mark_recipients_done("slack", &ids, &["a".to_owned()]);
    assert_eq!(times_pending(&queue, "slack"), [0]);
    queue.mark_recipients_done("slack", &ids, &["b".to_owned()]);
    assert!(queue.is_empty());
}

#[test]
fn later_events_of_an_alert_continue_the_thread_of_the_first_message() {
    let mut queue = DeliveryQueue::default();
    let first = enqueue(&mut queue, 0, TransitionKind::Raised, &["mail"]);
    enqueue(&mut queue, 1, TransitionKind::Escalated, &["mail"]);
    queue.enqueue(NewEvent::notice(threshold(2, TransitionKind::Raised), at(2), names(&["mail"])));
    queue.mark_delivered("mail", &[first].into(), Some("<first@example.com>"), &[]);
    let threads: Vec<_> = queue.pending_for("mail").map(|(_, delivery)| delivery.thread.as_deref()).collect();
    assert_eq!(threads, [Some("<first@example.com>"), None]);
}

#[test]
fn pending_notifiers_are_those_of_the_present_alert() {
    let mut queue = DeliveryQueue::default();
    enqueue(&mut queue, 0, TransitionKind::Raised, &["mail"]);
    assert_eq!(queue.pending_notifiers(&key(1)), names(&["mail"]));
    enqueue(&mut queue, 1, TransitionKind::Resolved, &["mail"]);
    assert_eq!(queue.pending_notifiers(&key(1)), names(&[]));
    enqueue(&mut queue, 2, TransitionKind::Raised, &["slack"]);
    assert_eq!(queue.pending_notifiers(&key(1)), names(&["slack"]));
    assert_eq!(queue.pending_notifiers(&key(2)), names(&[]));
}

#[test]
fn the_oldest_failure_is_found_and_failures_are_recorded_once() {
    let mut queue = DeliveryQueue::default();
    let ids: Vec<String> =
        [0, 1].map(|seconds| enqueue(&mut queue, seconds, TransitionKind::Escalated, &["slack"])).into();
    assert_eq!(queue.oldest_failure("slack"), None);
    assert!(queue.mark_failing("slack", &[ids[1].clone()].into(), at(9)));
    assert!(!queue.mark_failing("slack", &[ids[1].clone()].into(), at(9)));
    assert!(!queue.mark_failing("slack", &[ids[1].clone()].into(), at(10)), "the first failure counts");
    assert!(queue.mark_failing("slack", &[ids[0].clone()].into(), at(5)));
    assert_eq!(queue.oldest_failure("slack"), Some(at(5)));
    assert_eq!(queue.failures_mut("slack").count(), 2);
}

#[test]
fn new_fallbacks_get_what_is_pending_for_the_old_one() {
    let mut queue = DeliveryQueue::default();
    enqueue(&mut queue, 0, TransitionKind::Raised, &["slack"]);
    hand_over(&mut queue, None);
    let new_fallback = |name: &str| (name == "slack").then(|| Name::from("teams"));
    assert_eq!(queue.hand_over_to_new_fallbacks(new_fallback, |_, _| None), 1);
    assert_eq!(queue.hand_over_to_new_fallbacks(new_fallback, |_, _| None), 0);
    assert_eq!(times_pending(&queue, "teams"), [0]);
}

#[test]
fn pending_events_of_removed_notifiers_are_dropped_and_counted() {
    let mut queue = DeliveryQueue::default();
    enqueue(&mut queue, 0, TransitionKind::Raised, &["mail", "slack"]);
    enqueue(&mut queue, 1, TransitionKind::Escalated, &["slack"]);
    assert_eq!(queue.drop_unconfigured_notifiers(|name| name == "mail"), [("slack".into(), 2)].into());
    assert_eq!((times_pending(&queue, "mail"), queue.len()), (vec![0], 1));
    queue.mark_refused("mail", &[queue.events()[0].event.id.clone()].into(), &[]);
    assert!(queue.is_empty());
}

#[test]
fn a_queue_survives_being_saved() {
    let mut queue = DeliveryQueue::default();
    enqueue(&mut queue, 0, TransitionKind::Raised, &["mail", "slack"]);
    let json = serde_json::to_value(&queue).unwrap();
    assert_eq!(json[0]["pending"], serde_json::json!({ "mail": {}, "slack": {} }));
    let mut read: DeliveryQueue = serde_json::from_value(json).unwrap();
    assert_eq!(read, queue);
    let ids = [&mut read, &mut queue].map(|queue| enqueue(queue, 0, TransitionKind::Eased, &["mail"]));
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].ends_with(".2"));
}
