//! Which containers are booted with the host, and in which order.
//!
//! The order is between names: it holds for whatever container has the name, and says nothing of containers that are not enabled.

use crate::container::{Container, Enabled};
use crate::engine::Engine;
use crate::failure::{ContainerError, EnableError, EngineError};
use crate::request::OnError;
use cocker_image::Name;
use std::collections::{BTreeMap, BTreeSet};

/// The order in which containers are booted.
#[derive(Debug, Default)]
pub struct BootOrder {
    /// What is in one rank comes after all ranks before, and in no order among itself.
    pub ranks: Vec<Vec<Name>>,
    /// Whoever is to come after somebody who is not there: that one.
    pub missing: Vec<(Name, Name)>,
    /// Those that wait for each other; they are in the last rank.
    pub in_a_circle: Vec<Name>,
    /// Those whose settings cannot be read: nobody knows whether they are enabled.
    pub unreadable: Vec<ContainerError>,
}

/// Whoever is enabled, with what comes before it.
type After = BTreeMap<Name, Vec<Name>>;

impl Engine {
    /// Has a container booted with the host, after the others that are named, where those are.
    ///
    /// # Errors
    /// Where it would come after itself; or after somebody who is not there, unless that is gone on over.
    pub fn enable(
        &self,
        container: &Name,
        after: &[Name],
        on_error: OnError,
    ) -> Result<(), EngineError> {
        let after: BTreeSet<&Name> = after.iter().collect();
        let after = after.into_iter().cloned().collect();
        self.set_enabled(container, Some(Enabled { after }), on_error)
    }

    /// Does not have it booted with the host any more.
    pub fn disable(&self, container: &Name) -> Result<(), EngineError> {
        self.set_enabled(container, None, OnError::Stop)
    }

    /// How the containers that are enabled are to be booted.
    pub fn boot_order(&self) -> Result<BootOrder, EngineError> {
        let (after, unreadable) = self.enabled()?;
        let known: BTreeSet<Name> = self.container_names()?.into_iter().collect();
        let missing = after.iter().flat_map(|(name, after)| {
            let missing = after.iter().filter(|before| !known.contains(*before));
            missing.map(|before| (name.clone(), before.clone()))
        });
        let missing = missing.collect();
        let (ranks, in_a_circle) = ranks(&after);
        Ok(BootOrder {
            ranks,
            missing,
            in_a_circle,
            unreadable,
        })
    }

    /// The containers that are booted, or about to be booted again, in the order in which they are shut down: whatever comes after
    /// others goes before them.
    pub fn shutdown_order(&self) -> Result<Vec<Vec<Name>>, EngineError> {
        let (mut after, _) = self.enabled()?;
        let names = self.container_names()?;
        let up: BTreeSet<Name> = names.into_iter().filter(|name| self.is_up(name)).collect();
        for name in &up {
            after.entry(name.clone()).or_default();
        }
        let (mut ranks, _) = ranks(&after);
        ranks.reverse();
        for rank in &mut ranks {
            rank.retain(|name| up.contains(name));
        }
        ranks.retain(|rank| !rank.is_empty());
        Ok(ranks)
    }

    /// Whether a container is booted.
    pub fn is_booted(&self, container: &Name) -> bool {
        Container::open(&self.store, container).is_ok_and(|it| it.booted_pid().is_ok())
    }

    fn is_up(&self, name: &Name) -> bool {
        let Ok(container) = Container::open(&self.store, name) else {
            return false;
        };
        let is_expected =
            || crate::restart::restarts(&container).is_some_and(|it| it.again_in.is_some());
        container.booted_pid().is_ok() || is_expected()
    }

    fn set_enabled(
        &self,
        name: &Name,
        enabled: Option<Enabled>,
        on_error: OnError,
    ) -> Result<(), EngineError> {
        let set = || -> Result<(), EnableError> {
            let (mut container, _work) = Container::open_for_work(&self.store, name)?;
            // Two at once could each close one half of a circle.
            let _names = self.store.lock()?;
            if let Some(enabled) = &enabled {
                self.check_order(name, &enabled.after, on_error)?;
            }
            container.settings.enabled = enabled;
            container
                .write_settings(&container.settings)
                .map_err(|source| EnableError::Write { source })
        };
        set().map_err(|source| EngineError::Enable {
            container: name.clone(),
            source: Box::new(source),
        })
    }

    fn check_order(
        &self,
        name: &Name,
        after: &[Name],
        on_error: OnError,
    ) -> Result<(), EnableError> {
        let known: BTreeSet<Name> = self
            .container_names()
            .map_err(|source| EnableError::List {
                source: Box::new(source),
            })?
            .into_iter()
            .collect();
        let unknown = after.iter().find(|before| !known.contains(*before));
        if let Some(unknown) = unknown.filter(|_| on_error == OnError::Stop) {
            return Err(EnableError::Container(ContainerError::Unknown {
                container: unknown.clone(),
            }));
        }
        let (mut all, _) = self.enabled().map_err(|source| EnableError::List {
            source: Box::new(source),
        })?;
        all.insert(name.clone(), after.to_vec());
        match way_back(&all, name) {
            None => Ok(()),
            Some(way) => Err(EnableError::Circle {
                way: way.join(" after "),
            }),
        }
    }

    fn enabled(&self) -> Result<(After, Vec<ContainerError>), EngineError> {
        let (mut after, mut unreadable) = (After::new(), Vec::new());
        for name in self.container_names()? {
            match Container::open(&self.store, &name) {
                Ok(container) => {
                    let enabled = container.settings.enabled;
                    after.extend(enabled.map(|enabled| (name, enabled.after)));
                }
                Err(ContainerError::Unknown { .. }) => {}
                Err(error) => unreadable.push(error),
            }
        }
        Ok((after, unreadable))
    }
}

/// Everybody, each behind all that it comes after; those that cannot be put so stand in the last rank, and are named.
fn ranks(after: &After) -> (Vec<Vec<Name>>, Vec<Name>) {
    let mut left: BTreeSet<&Name> = after.keys().collect();
    let mut ranks = Vec::new();
    while !left.is_empty() {
        let is_ready = |name: &&Name| !after[*name].iter().any(|before| left.contains(before));
        let ready: Vec<&Name> = left.iter().copied().filter(is_ready).collect();
        if ready.is_empty() {
            let in_a_circle: Vec<Name> = left.into_iter().cloned().collect();
            ranks.push(in_a_circle.clone());
            return (ranks, in_a_circle);
        }
        for name in &ready {
            left.remove(name);
        }
        ranks.push(ready.into_iter().cloned().collect());
    }
    (ranks, Vec::new())
}

/// How `name` comes after itself, from it to it; none where it does not.
fn way_back(after: &After, name: &Name) -> Option<Vec<String>> {
    // The ways that are still to be followed, each from `name` on.
    let mut ways = vec![vec![name]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        let last = way.last().expect("every way begins somewhere");
        for before in after.get(*last).into_iter().flatten() {
            let mut longer = way.clone();
            longer.push(before);
            if before == name {
                return Some(longer.iter().map(|name| format!("`{name}`")).collect());
            }
            if seen.insert(before) {
                ways.push(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[(&str, &str)]) -> After {
        let name = |text: &str| Name::parse(text).expect("a name");
        let line = |(who, before): &(&str, &str)| {
            (name(who), before.split_whitespace().map(name).collect())
        };
        lines.iter().map(line).collect()
    }

    fn shown(ranks: &[Vec<Name>]) -> String {
        let rank = |rank: &Vec<Name>| {
            let names: Vec<&str> = rank.iter().map(Name::as_str).collect();
            names.join(" ")
        };
        ranks.iter().map(rank).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn everybody_stands_behind_what_they_come_after() {
        for (lines, expected) in [
            (&[][..], ""),
            (&[("b", ""), ("a", "")], "a b"),
            (&[("a", "b"), ("b", "c"), ("c", "")], "c | b | a"),
            (
                &[
                    ("web", "db cache"),
                    ("cache", "db"),
                    ("db", ""),
                    ("log", ""),
                ],
                "db log | cache | web",
            ),
            // Not enabled, or not there.
            (&[("a", "nobody"), ("b", "a")], "a | b"),
        ] {
            let (ranks, in_a_circle) = ranks(&after(lines));
            assert_eq!(shown(&ranks), expected);
            assert_eq!(in_a_circle, []);
        }
    }

    #[test]
    fn a_circle_keeps_nobody_from_being_booted() {
        let (ranks, in_a_circle) = ranks(&after(&[("a", "b"), ("b", "a"), ("c", ""), ("d", "a")]));
        assert_eq!(shown(&ranks), "c | a b d");
        assert_eq!(shown(&[in_a_circle]), "a b d");
    }

    #[test]
    fn the_way_back_is_told() {
        let all = after(&[
            ("a", "b c"),
            ("b", ""),
            ("c", "d"),
            ("d", "b a"),
            ("e", "e"),
        ]);
        let way = |from: &str| {
            let way = way_back(&all, &Name::parse(from).expect("a name"));
            way.map(|way| way.join(" "))
        };
        assert_eq!(way("a").as_deref(), Some("`a` `c` `d` `a`"));
        assert_eq!(way("e").as_deref(), Some("`e` `e`"));
        assert_eq!(way("b"), None);
    }
}
