//! What the commands mean, one after the other: the state before, the answer, the state after.

use std::collections::BTreeMap;

/// What a container's, or an image's, file `/token` holds; 0 where there is none.
pub type Token = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    pub is_booted: bool,
    pub token: Token,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    pub containers: BTreeMap<&'static str, Container>,
    pub images: BTreeMap<&'static str, Token>,
}

/// What happens at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Create(&'static str),
    Boot(&'static str),
    /// Shutdown, or kill.
    End(&'static str),
    /// What a destruction does first that may end the container.
    EndIfBooted(&'static str),
    Destroy(&'static str),
    /// A command in the container reads the token.
    Run(&'static str),
    Put(&'static str, Token),
    Get(&'static str),
    ToImage(&'static str, &'static str),
    ToContainer(&'static str, &'static str),
    Copy(&'static str, &'static str),
    Remove(&'static str),
    /// Of a list, what it says of one name.
    ListContainer(&'static str),
    ListImage(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Read(Token),
    NoContainer,
    NoImage,
    Booted,
    NotBooted,
    /// The container ended while the command was at work in it, or booted it.
    BrokenOff,
    NameInUse,
    /// Of a list: whether it is there, and whether it is booted.
    Seen(Option<bool>),
}

/// Every answer that is right, and what is so after it. A command that may refuse for several reasons may say any of them.
pub fn outcomes(step: Step, before: &State) -> Vec<(Answer, State)> {
    let container = |name| before.containers.get(name).copied();
    let image = |name| before.images.get(name).copied();
    let same = |answer| vec![(answer, before.clone())];
    let changed = |change: &dyn Fn(&mut State)| {
        let mut after = before.clone();
        change(&mut after);
        vec![(Answer::Done, after)]
    };
    let set = |name: &'static str, now: Container| {
        changed(&|state| {
            state.containers.insert(name, now);
        })
    };
    match step {
        Step::Create(name) => match container(name) {
            Some(_) => same(Answer::NameInUse),
            None => set(
                name,
                Container {
                    is_booted: false,
                    token: 0,
                },
            ),
        },
        Step::Boot(name) => match container(name) {
            None => same(Answer::NoContainer),
            Some(Container {
                is_booted: true, ..
            }) => same(Answer::Booted),
            Some(stopped) => {
                let booted = set(
                    name,
                    Container {
                        is_booted: true,
                        ..stopped
                    },
                );
                // It can be ended before it is ready: whoever does that finds it booted.
                let ended = booted
                    .iter()
                    .map(|(_, state)| (Answer::BrokenOff, state.clone()));
                ended.chain(booted.clone()).collect()
            }
        },
        Step::End(name) | Step::EndIfBooted(name) => match container(name) {
            Some(
                booted @ Container {
                    is_booted: true, ..
                },
            ) => set(
                name,
                Container {
                    is_booted: false,
                    ..booted
                },
            ),
            _ if matches!(step, Step::EndIfBooted(_)) => same(Answer::Done),
            None => same(Answer::NoContainer),
            Some(_) => same(Answer::NotBooted),
        },
        Step::Destroy(name) => match container(name) {
            None => same(Answer::NoContainer),
            Some(Container {
                is_booted: true, ..
            }) => same(Answer::Booted),
            Some(_) => changed(&|state| {
                state.containers.remove(name);
            }),
        },
        Step::Run(name) => match container(name) {
            None => same(Answer::NoContainer),
            Some(Container {
                is_booted: true,
                token,
            }) => same(Answer::Read(token)),
            Some(_) => same(Answer::NotBooted),
        },
        Step::Put(name, token) => match container(name) {
            None => same(Answer::NoContainer),
            Some(there) => set(name, Container { token, ..there }),
        },
        Step::Get(name) => match container(name) {
            None => same(Answer::NoContainer),
            Some(Container { token, .. }) => same(Answer::Read(token)),
        },
        Step::ToImage(from, to) => {
            let refusals = [
                container(from).is_none().then_some(Answer::NoContainer),
                container(from)
                    .is_some_and(|it| it.is_booted)
                    .then_some(Answer::Booted),
                image(to).is_some().then_some(Answer::NameInUse),
            ];
            refused(before, refusals).unwrap_or_else(|| {
                changed(&|state| {
                    let gone = state.containers.remove(from);
                    state.images.insert(to, gone.map_or(0, |it| it.token));
                })
            })
        }
        Step::ToContainer(from, to) => {
            let refusals = [
                image(from).is_none().then_some(Answer::NoImage),
                container(to).is_some().then_some(Answer::NameInUse),
                None,
            ];
            refused(before, refusals).unwrap_or_else(|| {
                changed(&|state| {
                    let token = state.images.remove(from).unwrap_or_default();
                    let is_booted = false;
                    state.containers.insert(to, Container { is_booted, token });
                })
            })
        }
        Step::Copy(from, to) => {
            let refusals = [
                image(from).is_none().then_some(Answer::NoImage),
                image(to).is_some().then_some(Answer::NameInUse),
                None,
            ];
            refused(before, refusals).unwrap_or_else(|| {
                changed(&|state| {
                    state.images.insert(to, state.images[from]);
                })
            })
        }
        Step::Remove(name) => match image(name) {
            None => same(Answer::NoImage),
            Some(_) => changed(&|state| {
                state.images.remove(name);
            }),
        },
        Step::ListContainer(name) => same(Answer::Seen(container(name).map(|it| it.is_booted))),
        Step::ListImage(name) => same(Answer::Seen(image(name).map(|_| false))),
    }
}

fn refused(before: &State, reasons: [Option<Answer>; 3]) -> Option<Vec<(Answer, State)>> {
    let reasons = reasons.into_iter().flatten();
    let refusals: Vec<_> = reasons.map(|answer| (answer, before.clone())).collect();
    (!refusals.is_empty()).then_some(refusals)
}
