//! Who runs with whom.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { rows: 4, cells: 100, padding_percent: 20 };

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    name: &'static str,
    length: usize,
    gone: bool,
    deadline: Instant,
}

impl Waiting for Entry {
    fn length(&self) -> usize {
        self.length
    }
    fn is_gone(&self) -> bool {
        self.gone
    }
    fn deadline(&self) -> Instant {
        self.deadline
    }
}

fn check(lengths: &[usize], expect: &[usize]) {
    assert_eq!(group(lengths, &LIMITS), expect, "{lengths:?}");
}

#[test]
fn the_oldest_takes_its_nearest_by_length_along() {
    check(&[], &[]);
    check(&[7], &[0]);
    check(&[10, 10, 10], &[0, 1, 2]);
    check(&[20, 50, 21, 19], &[0, 2, 3]);
    // Of those equally near the older: five of one length, four rows fit.
    check(&[10, 10, 10, 10, 10], &[0, 1, 2, 3]);
    // The oldest goes first, however little company it has.
    check(&[90, 10, 10, 10], &[0]);
}

#[test]
fn limits_of_rows_cells_and_padding_hold() {
    // 3 x 34 cells are over 100.
    check(&[34, 34, 34], &[0, 1]);
    // 10 beside 14: 4 of 28 cells are padding; beside 20 it would be 10 of 40.
    check(&[10, 14], &[0, 1]);
    check(&[10, 20], &[0]);
    // One row alone may be as long as it is.
    check(&[5000, 5000], &[0]);
}

#[test]
fn what_runs_is_taken_out_and_the_others_keep_their_order() {
    let now = Instant::now();
    let soon = now + Duration::from_secs(1);
    let entry = |name, length| Entry { name, length, gone: false, deadline: soon };
    let late = Entry { deadline: now, ..entry("late", 10) };
    let gone = Entry { gone: true, ..entry("gone", 10) };
    let mut waiting: VecDeque<_> = [gone, entry("a", 10), entry("b", 60), late, entry("c", 11), entry("d", 61)].into();
    let taken = take(&mut waiting, &LIMITS, now);
    let names = |entries: &[Entry]| entries.iter().map(|entry| entry.name).collect::<Vec<_>>();
    assert_eq!((names(&taken.batch), names(&taken.expired)), (vec!["a", "c"], vec!["late"]));
    assert_eq!(names(waiting.make_contiguous()), ["b", "d"]);
    assert_eq!(names(&take(&mut waiting, &LIMITS, now).batch), ["b"]);
    assert_eq!(names(&take(&mut waiting, &LIMITS, now).batch), ["d"]);
    assert!(take(&mut waiting, &LIMITS, now).batch.is_empty());
}

#[test]
fn company_is_waited_for_only_while_others_run_and_only_for_the_window() {
    let (now, window) = (Instant::now(), Duration::from_millis(10));
    let check = |waiting, running, at: u64, expect: Option<u64>| {
        let left = wait_for_company(now, waiting, running, 4, window, now + Duration::from_millis(at));
        assert_eq!(left, expect.map(Duration::from_millis), "{waiting} waiting, {running} running, after {at} ms");
    };
    check(1, 0, 0, None);
    check(1, 1, 0, Some(10));
    check(1, 1, 4, Some(6));
    check(1, 1, 10, None);
    check(1, 1, 11, None);
    check(4, 1, 0, None);
}

fn limits() -> impl Strategy<Value = Limits> {
    (1_usize..20, 1_usize..600, 0_usize..=100).prop_map(|(rows, cells, padding_percent)| Limits { rows, cells, padding_percent })
}

fn within(group: &[usize], lengths: &[usize], limits: &Limits) -> bool {
    let of_group: Vec<_> = group.iter().map(|index| lengths[*index]).collect();
    let (cells, sum) = (of_group.len() * of_group.iter().max().unwrap(), of_group.iter().sum::<usize>());
    group.len() == 1 || (group.len() <= limits.rows && cells <= limits.cells && (cells - sum) * 100 <= limits.padding_percent * cells)
}

proptest! {
    #[test]
    fn a_group_has_the_oldest_and_keeps_the_limits(lengths in prop::collection::vec(1_usize..600, 1..40), limits in limits()) {
        let group = group(&lengths, &limits);
        prop_assert!(group.first() == Some(&0) && group.is_sorted_by(|a, b| a < b));
        prop_assert!(within(&group, &lengths, &limits), "{group:?}");
    }

    #[test]
    fn groups_have_everyone_once_and_keep_the_limits(lengths in prop::collection::vec(1_usize..600, 0..40), limits in limits()) {
        let groups = groups(&lengths, &limits);
        let mut all: Vec<_> = groups.concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
        for group in groups {
            prop_assert!(within(&group, &lengths, &limits), "{:?}", group);
        }
    }

    #[test]
    fn nobody_waits_for_ever(lengths in prop::collection::vec(1_usize..600, 1..30), limits in limits()) {
        let now = Instant::now();
        let entry = |length| Entry { name: "", length, gone: false, deadline: now + Duration::from_secs(1) };
        let mut waiting: VecDeque<_> = lengths.iter().copied().map(entry).collect();
        let mut runs = 0;
        while !waiting.is_empty() {
            prop_assert!(!take(&mut waiting, &limits, now).batch.is_empty());
            runs += 1;
        }
        prop_assert!(runs <= lengths.len());
    }
}
