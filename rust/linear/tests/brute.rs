//! The search against a checker that tries every order, on tiny histories; and histories of a real object, which must pass.
#![allow(clippy::unwrap_used)]

use linear::key::{self, Key};
use linear::search::{Budget, Verdict, search};
use linear::task::{self, Status, Task};
use linear::{Model, Timed};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Whether some order of `left` from `state` respects time: nothing is taken while something that had returned before it
/// was called is still left.
fn brute<M: Model>(state: &M::State, left: &[Timed<M::Operation>]) -> bool {
    let Some(first_return) = left.iter().filter_map(|operation| operation.returned).min() else { return true };
    (0..left.len()).filter(|at| left[*at].called <= first_return).any(|at| {
        M::step(state, &left[at].operation).is_some_and(|after| {
            let mut rest = left.to_vec();
            rest.remove(at);
            brute::<M>(&after, &rest)
        })
    })
}

fn found<M: Model>(operations: &[Timed<M::Operation>]) -> bool {
    match search::<M>(operations, &mut Budget::default()) {
        Verdict::Linearizable(_) => true,
        Verdict::Impossible(_) => false,
        Verdict::Exhausted => panic!("the budget is ample"),
    }
}

type Span = (u64, u64, bool);

/// Begin, length, whether the outcome is unknown.
fn span() -> impl Strategy<Value = Span> {
    (0u64..20, 0u64..12, prop::bool::weighted(0.2))
}

fn timed<O: Clone>(span: Span, answered: O, open: Option<O>, line: usize) -> Option<Timed<O>> {
    let (called, length, unknown) = span;
    if unknown {
        return open.map(|operation| Timed { called, returned: None, line, operation });
    }
    Some(Timed { called, returned: Some(called + length), line, operation: answered })
}

fn key_operation() -> impl Strategy<Value = key::Operation> {
    let shown = (1i64..4, 1u64..5, 1u64..4, any::<bool>()).prop_map(|(value, revision, version, with)| key::Shown {
        value: with.then_some(value),
        revision,
        version,
    });
    let call = prop_oneof![
        3 => Just(key::Call::Get),
        3 => (1i64..4).prop_map(|value| key::Call::Put { value }),
        2 => (1i64..4, 1u64..5).prop_map(|(value, revision)| key::Call::PutIf { value, revision }),
        1 => (1i64..4).prop_map(|value| key::Call::Create { value }),
        1 => Just(key::Call::Delete),
    ];
    (call, prop::bool::weighted(0.85), prop::option::weighted(0.8, shown))
        .prop_map(|(call, ok, key)| key::Operation { call, answer: Some(key::Answer { ok: ok || call == key::Call::Get, key }) })
}

fn key_history() -> impl Strategy<Value = Vec<Timed<key::Operation>>> {
    prop::collection::vec((span(), key_operation()), 1..6).prop_map(|all| {
        let one = |(line, (span, operation))| timed(span, operation, Key::forget(&operation), line);
        all.into_iter().enumerate().filter_map(one).collect()
    })
}

fn task_operation() -> impl Strategy<Value = task::Operation> {
    let agent = || prop_oneof![Just("a".to_owned()), Just("b".to_owned())];
    let status = prop_oneof![
        Just(Status::Ready),
        Just(Status::Assigned),
        Just(Status::Running),
        Just(Status::Parked),
        Just(Status::Completed),
        Just(Status::Cancelled),
    ];
    let shown = (status, 0u32..5, agent(), prop::option::of(1i64..3)).prop_map(|(status, epoch, agent, result)| {
        let by = matches!(status, Status::Assigned | Status::Running | Status::Completed).then_some(agent);
        task::Shown { id: Some("T".to_owned()), status: Some(status), epoch: Some(epoch), agent: by, result }
    });
    let id = |id: &str| task::Shown { id: Some(id.to_owned()), status: None, epoch: None, agent: None, result: None };
    let submitted = prop_oneof![9 => Just(id("T")), 1 => Just(id("U"))];
    prop_oneof![
        3 => submitted.prop_map(|shown| (task::Call::Submit, true, Some(shown))),
        3 => prop::option::weighted(0.9, shown.clone()).prop_map(|shown| (task::Call::Get, true, shown)),
        3 => (agent(), 1u32..5).prop_map(|(agent, epoch)| (task::Call::HandOver { agent, epoch }, true, None)),
        3 => (agent(), 1u32..5, 1i64..3, prop::option::weighted(0.3, shown.clone())).prop_map(|(agent, epoch, result, refused)| {
            (task::Call::Complete { agent, epoch, result }, refused.is_none(), refused)
        }),
        1 => (any::<bool>(), shown).prop_map(|(ok, shown)| (task::Call::Cancel, ok, Some(shown))),
    ]
    .prop_map(|(call, ok, task)| task::Operation { call, answer: Some(task::Answer { ok, task }) })
}

fn task_history() -> impl Strategy<Value = Vec<Timed<task::Operation>>> {
    prop::collection::vec((span(), task_operation()), 1..6).prop_map(|all| {
        let one = |(line, (span, operation)): (usize, (Span, task::Operation))| {
            let open = Task::forget(&operation);
            timed(span, operation, open, line)
        };
        all.into_iter().enumerate().filter_map(one).collect()
    })
}

/// Compares on `cases` histories and returns how many were linearizable.
fn compare<M: Model>(history: impl Strategy<Value = Vec<Timed<M::Operation>>>, cases: usize) -> usize {
    let mut runner = TestRunner::deterministic();
    let mut linearizable = 0;
    for _ in 0..cases {
        let operations = history.new_tree(&mut runner).unwrap().current();
        let expected = brute::<M>(&M::initial(), &operations);
        assert_eq!(found::<M>(&operations), expected, "{operations:#?}");
        linearizable += usize::from(expected && operations.len() > 1);
    }
    linearizable
}

/// Both verdicts must be common, or the comparison shows nothing.
#[test]
fn the_search_agrees_with_brute_force_on_keys() {
    let linearizable = compare::<Key>(key_history(), 30_000);
    assert!((300..29_000).contains(&linearizable), "{linearizable}");
}

#[test]
fn the_search_agrees_with_brute_force_on_tasks() {
    let linearizable = compare::<Task>(task_history(), 30_000);
    assert!((300..29_000).contains(&linearizable), "{linearizable}");
}

/// What one copy of a key answers, computed without the model: revisions by a counter that other keys also raise.
fn execute(calls: &[(key::Call, Span, u64)]) -> Vec<Timed<key::Operation>> {
    let (mut stored, mut counter) = (None::<(i64, u64, u64)>, 0);
    let mut history = Vec::new();
    for (at, (call, (before, after, unknown), others)) in calls.iter().enumerate() {
        counter += others;
        let shown = |with: bool, stored: Option<(i64, u64, u64)>| {
            stored.map(|(value, revision, version)| key::Shown { value: with.then_some(value), revision, version })
        };
        let call = match *call {
            // A condition on what is there, mostly.
            key::Call::PutIf { value, revision } if revision % 4 != 0 => {
                key::Call::PutIf { value, revision: stored.map_or(revision, |(_, revision, _)| revision) }
            }
            call => call,
        };
        let holds = match call {
            key::Call::PutIf { revision, .. } => stored.is_some_and(|(_, now, _)| now == revision),
            key::Call::Create { .. } => stored.is_none(),
            key::Call::Delete => stored.is_some(),
            key::Call::Get | key::Call::Put { .. } => true,
        };
        let answer = match call {
            key::Call::Get => key::Answer { ok: true, key: shown(true, stored) },
            _ if !holds => key::Answer { ok: false, key: shown(false, stored) },
            key::Call::Delete => {
                (stored, counter) = (None, counter + 1);
                key::Answer { ok: true, key: None }
            }
            key::Call::Put { value } | key::Call::PutIf { value, .. } | key::Call::Create { value } => {
                counter += 1;
                stored = Some((value, counter, stored.map_or(1, |(_, _, version)| version + 1)));
                key::Answer { ok: true, key: shown(false, stored) }
            }
        };
        // It takes effect at 10 · at, somewhere within its span.
        let moment = 1000 + 10 * at as u64;
        let operation = key::Operation { call, answer: Some(answer) };
        let open = Key::forget(&operation);
        history.extend(timed((moment - before * 7, (before + after) * 7, *unknown), operation, open, at));
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However long operations take and however many answers are lost, what one copy answered is linearizable.
    #[test]
    fn what_one_copy_answered_is_linearizable(
        calls in prop::collection::vec((key_operation().prop_map(|operation| operation.call), span(), 0u64..3), 1..60)
    ) {
        prop_assert!(found::<Key>(&execute(&calls)));
    }

    /// One answer exchanged for that of another read is found out, unless brute force, too, finds an order for it.
    #[test]
    fn an_exchanged_answer_is_judged_as_by_brute_force(
        calls in prop::collection::vec((key_operation().prop_map(|operation| operation.call), span(), 0u64..3), 2..8),
        one in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
    ) {
        let mut history = execute(&calls);
        if history.is_empty() {
            return Ok(());
        }
        let answer = history[other.index(history.len())].operation.answer;
        let at = one.index(history.len());
        if history[at].returned.is_some() && answer.is_some() {
            history[at].operation.answer = answer;
        }
        prop_assert_eq!(found::<Key>(&history), brute::<Key>(&Key::initial(), &history));
    }
}

/// Forty writes get no answer; reads between them show that every third happened, always the newest one. Without the
/// exchange of alike operations the budget runs out.
#[test]
fn many_lost_answers_on_one_key_are_decided() {
    let mut history = Vec::new();
    for at in 0..40u64 {
        let call = key::Call::Put { value: at as i64 };
        history.push(Timed { called: 100 * at, returned: None, line: 0, operation: key::Operation { call, answer: None } });
        if at % 3 == 2 {
            let shown = key::Shown { value: Some(at as i64), revision: 10 * at, version: at / 3 * 2 + 2 };
            let answer = Some(key::Answer { ok: true, key: Some(shown) });
            let operation = key::Operation { call: key::Call::Get, answer };
            history.push(Timed { called: 100 * at + 50, returned: Some(100 * at + 60), line: 0, operation });
        }
    }
    let budget = || Budget { steps_max: 1_000_000, cache_max: 100_000 };
    assert!(matches!(search::<Key>(&history, &mut budget()), Verdict::Linearizable(_)));
    // One version more than there were writes.
    let last = history.iter_mut().rev().find(|timed| timed.returned.is_some()).unwrap();
    last.operation.answer.as_mut().unwrap().key.as_mut().unwrap().version = 41;
    assert!(matches!(search::<Key>(&history, &mut budget()), Verdict::Impossible(_)));
}
