//! `ssearch`, `spush`, `spull` and `srm`: images in an account on a server.

use crate::environment;
use crate::escape::escape;
use crate::failure::Failure;
use crate::listing;
use crate::local_time::Clock;
use crate::options::{ListingForm, Pulling, Pushing, Removing, Searching, TimeOfDay};
use crate::output;
use crate::progress::ProgressLine;
use crate::terminal;
use cocker_engine::{
    Address, AllowedSigners, Engine, Prompts, PullRequest, PushRequest, RemoveRequest,
    RepositoryRequest, SearchRequest, SigningKey, WrittenTime,
};
use std::path::Path;

pub fn search(engine: &Engine, said: Searching, form: ListingForm) -> Result<(), Failure> {
    let images = engine.search(&SearchRequest {
        repository: repository(said.address),
        part: said.part,
    })?;
    output::print(listing::repository::images(&images, form))
}

pub fn push(engine: &Engine, said: Pushing) -> Result<(), Failure> {
    let mut request = PushRequest {
        repository: repository(said.address),
        image: said.image,
        form: said.form,
        compression: said.compression,
        if_there: said.if_there,
        signing: said.sign.as_deref().map(signing_key).transpose()?,
    };
    let mut line = ProgressLine::new("push");
    let pushed = engine.push(&mut request, &mut |progress| line.show(progress));
    line.clear();
    let pushed = pushed?;
    tracing::info!("pushed `{pushed}`");
    output::print_ok()
}

pub fn pull(engine: &Engine, said: Pulling) -> Result<(), Failure> {
    let signers = said.verify.as_deref().map(allowed_signers).transpose()?;
    let request = PullRequest {
        repository: repository(said.address),
        image: said.image,
        options: said.options,
        allowed_signers: signers,
    };
    let mut line = ProgressLine::new("pull");
    let pulled = engine.pull(&request, &mut |progress| line.show(progress));
    line.clear();
    let pulled = pulled?;
    match pulled.signer {
        Some(signer) => tracing::info!("pulled `{}`, signed by {signer}", pulled.image),
        None => tracing::info!("pulled `{}`", pulled.image),
    }
    output::print_ok()
}

pub fn remove(engine: &Engine, said: Removing) -> Result<(), Failure> {
    let removed = engine.remove_from_repository(&RemoveRequest {
        repository: repository(said.address),
        image: said.image,
    })?;
    tracing::info!("removed `{removed}`");
    output::print_ok()
}

/// A script is never asked anything: who is to be asked sits at a terminal.
fn repository(address: Option<Address>) -> RepositoryRequest {
    RepositoryRequest {
        address,
        prompts: match terminal::is_there() {
            true => Prompts::Allowed,
            false => Prompts::Never,
        },
    }
}

/// Lines that allow nobody are told, and are no obstacle: another line may allow who signed.
fn allowed_signers(path: &Path) -> Result<AllowedSigners, Failure> {
    let clock = Clock::local();
    let shows = |written: WrittenTime| {
        let (hour, minute, second) = written.time;
        let time = TimeOfDay {
            hour,
            minute,
            second,
        };
        clock.find(written.date, time)
    };
    let signers = AllowedSigners::open(path, &shows).map_err(|error| {
        let failure = Failure::not_done("cannot pull a signed image").caused_by(&error);
        failure.with_hint(error.hint())
    })?;
    for line in signers.bad_lines() {
        output::complain(&format!("Warning: {}\n", escape(&line.to_string())));
    }
    Ok(signers)
}

fn signing_key(path: &Path) -> Result<SigningKey, Failure> {
    let agent = environment::agent();
    let key = SigningKey::open(path, agent.as_deref(), &mut terminal::ask_passphrase);
    key.map_err(|error| {
        let failure = Failure::not_done("cannot sign the image").caused_by(&error);
        failure.with_hint(error.hint())
    })
}
