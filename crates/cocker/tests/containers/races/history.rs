//! What happened: steps with the time that each took, and their answers; and whether there is an order of them in which every
//! answer is right (linearizability: Herlihy and Wing, 1990; searched for as by Wing and Gong, 1993, with a memory of what was
//! tried, as by Lowe, 2017).

use super::model::{Answer, State, Step, outcomes};
use std::collections::HashSet;
use std::time::Instant;

#[derive(Clone, Debug)]
pub struct Event {
    /// As it was typed.
    pub line: String,
    pub step: Step,
    pub answer: Answer,
    /// It took effect at a moment between these two.
    pub begun: Instant,
    pub ended: Instant,
    /// It took effect after the event of this index too.
    pub after: Option<usize>,
}

/// How many events one search takes.
pub const MOST: usize = 128;

/// Every state in which an order of the events may end that began in one of `begin`; none where there is no such order.
pub fn ends(events: &[Event], begin: &HashSet<State>) -> HashSet<State> {
    assert!(events.len() <= MOST);
    // Bit i of `before[k]`: event i ended before event k began.
    let before: Vec<u128> = events
        .iter()
        .map(|event| {
            let ended =
                |at: usize, other: &Event| other.ended < event.begun || event.after == Some(at);
            let earlier = events.iter().enumerate();
            let earlier = earlier.filter(|(at, other)| ended(*at, other));
            earlier.fold(0, |bits, (at, _)| bits | 1 << at)
        })
        .collect();
    let all = u128::MAX
        .checked_shr(128 - events.len() as u32)
        .unwrap_or(0);
    let mut tried: HashSet<(u128, State)> = HashSet::new();
    let mut open: Vec<(u128, State)> = begin.iter().map(|state| (0, state.clone())).collect();
    let mut ends = HashSet::new();
    while let Some((done, state)) = open.pop() {
        if done == all {
            ends.insert(state);
            continue;
        }
        for (at, event) in events.iter().enumerate() {
            let is_next = done & (1 << at) == 0 && before[at] & !done == 0;
            if !is_next {
                continue;
            }
            let mut right = outcomes(event.step, &state);
            if is_ended_by_another(event, &state, events, done) {
                right.push((Answer::Done, state.clone()));
            }
            if is_broken_off(event, events) {
                right.push((Answer::BrokenOff, state.clone()));
            }
            for (answer, after) in right {
                let now = (done | 1 << at, after);
                if answer == event.answer && tried.insert(now.clone()) {
                    open.push(now);
                }
            }
        }
    }
    ends
}

/// Two that end a container at once both have done it.
fn is_ended_by_another(event: &Event, state: &State, events: &[Event], done: u128) -> bool {
    let Step::End(name) = event.step else {
        return false;
    };
    let is_stopped = state.containers.get(name).is_some_and(|it| !it.is_booted);
    is_stopped
        && events.iter().enumerate().any(|(at, other)| {
            done & (1 << at) != 0
                && other.ended > event.begun
                && [Step::End(name), Step::EndIfBooted(name)].contains(&other.step)
        })
}

/// What runs in a container while somebody ends it is broken off, before that is seen anywhere else.
fn is_broken_off(event: &Event, events: &[Event]) -> bool {
    let Step::Run(name) = event.step else {
        return false;
    };
    events.iter().any(|other| {
        [Step::End(name), Step::EndIfBooted(name)].contains(&other.step)
            && other.begun < event.ended
            && event.begun < other.ended
    })
}

/// The events in the order of their beginnings, with times in milliseconds.
pub fn told(events: &[Event]) -> String {
    let Some(first) = events.iter().map(|event| event.begun).min() else {
        return String::new();
    };
    let mut sorted: Vec<&Event> = events.iter().collect();
    sorted.sort_by_key(|event| event.begun);
    let since = |moment: Instant| (moment - first).as_secs_f64() * 1000.0;
    let line = |event: &&Event| {
        format!(
            "{:9.3} … {:9.3}  {:?} → {:?}   `{}`\n",
            since(event.begun),
            since(event.ended),
            event.step,
            event.answer,
            event.line
        )
    };
    sorted.iter().map(line).collect()
}

/// The search itself can say no: of this the rest of the topic is worth nothing without.
pub fn proves_itself() {
    let now = Instant::now();
    let at = |milliseconds: u64| now + std::time::Duration::from_millis(milliseconds);
    let event = |step, answer, begun, ended| Event {
        line: String::new(),
        step,
        answer,
        begun: at(begun),
        ended: at(ended),
        after: None,
    };
    let begin = HashSet::from([State::default()]);
    let can = |events: &[Event]| !ends(events, &begin).is_empty();
    let create = |begun, ended| event(Step::Create("a"), Answer::Done, begun, ended);
    let boot = |answer, begun, ended| event(Step::Boot("a"), answer, begun, ended);
    assert!(can(&[create(0, 1), boot(Answer::Done, 2, 3)]));
    // At once, either may have been first; one after the other, only the first.
    assert!(can(&[create(0, 2), boot(Answer::NoContainer, 1, 3)]));
    assert!(!can(&[create(0, 1), boot(Answer::NoContainer, 2, 3)]));
    // One name, made twice, and nothing between.
    assert!(!can(&[create(0, 2), create(1, 3)]));
    let destroy = event(Step::Destroy("a"), Answer::Done, 0, 3);
    assert!(can(&[create(0, 2), create(1, 3), destroy]));
    // One container is ended twice, by two at once.
    let end = |begun, ended| event(Step::End("a"), Answer::Done, begun, ended);
    let booted = [create(0, 1), boot(Answer::Done, 2, 3)];
    assert!(can(&[&booted[..], &[end(4, 6), end(5, 7)]].concat()));
    assert!(!can(&[&booted[..], &[end(4, 5), end(6, 7)]].concat()));
    // A file that was lost.
    let put = event(Step::Put("a", 7), Answer::Done, 2, 3);
    let get = |token| event(Step::Get("a"), Answer::Read(token), 4, 5);
    assert!(can(&[create(0, 1), put.clone(), get(7)]));
    assert!(!can(&[create(0, 1), put, get(0)]));
}
