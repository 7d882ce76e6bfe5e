//! `attach`: the user's terminal on a session in a booted container.

use crate::environment;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::options::Attaching;
use crate::output;
use crate::recorder::Recorder;
use crate::signals;
use crate::terminal::{self, Outcome, Sight};
use cocker_engine::{AttachRequest, Ending, Engine, IfThere, Name, Title, Which};
use cocker_recording::Encoder;
use signal_hook::consts::SIGHUP;
use std::path::{Path, PathBuf};

pub fn execute(attaching: Attaching) -> Result<ExitCode, Failure> {
    terminal::require()?;
    look(
        &environment::engine_about(Some(&attaching.container))?,
        attaching,
    )
}

/// A new session in a container that has just been booted.
pub fn open_session(engine: &Engine, container: &Name) -> Result<ExitCode, Failure> {
    let attaching = Attaching {
        container: container.clone(),
        which: Which::New(None),
        is_read_only: false,
        record: None,
    };
    look(engine, attaching)
}

/// From the connection until the session ends or is left; its shell's status is ours, as with a remote login.
fn look(engine: &Engine, attaching: Attaching) -> Result<ExitCode, Failure> {
    let Attaching {
        container,
        which,
        is_read_only,
        record,
    } = attaching;
    let request = AttachRequest {
        which,
        is_read_only,
        look: terminal::look(),
    };
    let size = request.look.size;
    let mut recorder = recorder(&container, b"", record.as_ref())?;
    let session = match engine.attach(&container, &request) {
        Ok(session) => session,
        Err(error) => {
            recorder.withdraw();
            return Err(error.into());
        }
    };
    recorder.started();
    output::print("connect to container ok\n")?;
    let number = session.number;
    let outcome = terminal::look_at(Sight {
        session,
        size,
        is_read_only,
        recorder,
        deadline: None,
    })?;
    match outcome {
        Outcome::Left => {
            output::complain(&format!(
                "detached; `cocker attach {container}` comes back to session {number}\n"
            ));
            Ok(ExitCode::SUCCESS)
        }
        other => status(other, &container, number),
    }
}

/// A recording of what is shown on the user's terminal.
pub fn recorder(
    container: &Name,
    command: &[u8],
    record: Option<&(PathBuf, IfThere)>,
) -> Result<Recorder, Failure> {
    let wanted = record.map(|(file, if_there)| (Path::new(file), *if_there));
    let term = environment::terminal_type();
    let title = Title {
        title: container.as_str(),
        command,
        size: Some(terminal::size()),
        term: Some(&term),
    };
    Recorder::new(Encoder::new(), wanted, None, &title)
}

/// What is said of a session that is not looked at any more, and our exit status.
pub fn status(outcome: Outcome, container: &Name, number: u32) -> Result<ExitCode, Failure> {
    let code = match outcome {
        Outcome::Ended(Ending::Exited(status)) => status,
        Outcome::Ended(Ending::ContainerGone) => {
            return Err(Failure::not_done("connection to container lost").hint(format!(
                "if container `{container}` was shut down, `cocker boot {container}` boots it again."
            )));
        }
        Outcome::Ended(Ending::Killed { signal }) => {
            if signal == SIGHUP {
                output::complain(&format!("session {number} was ended\n"));
            }
            signals::exit_code(signal)
        }
        Outcome::ToldToEnd(signal) => signals::exit_code(signal),
        Outcome::Left | Outcome::TookTooLong(_) => 0,
    };
    Ok(ExitCode::from(code))
}
