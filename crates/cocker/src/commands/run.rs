//! `run`: a command in a booted container, with our streams, our signals and its exit status; or with none of them.

use super::attach;
use crate::environment;
use crate::exit::ExitCode;
use crate::failure::{self, Failure};
use crate::options::{Company, Run};
use crate::output;
use crate::recorder::Recorder;
use crate::signals;
use crate::streams::{self, Companion};
use crate::terminal::{self, Outcome, Sight};
use cocker_engine::{
    Engine, EngineError, IfThere, Name, Program, RunRequest, SessionTarget, Title,
};
use cocker_recording::Encoder;
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGKILL};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a recording's file is called after.
const WHAT: &str = "run";

pub fn execute(run: Run) -> Result<ExitCode, Failure> {
    let Run {
        container,
        request,
        company,
    } = run;
    let engine = environment::engine_about(Some(&container))
        .map_err(|failure| failure.exit_with(failure::COCKER_FAILED))?;
    match company {
        Company::Detached => detach(&engine, &container, &request),
        Company::Attended {
            on_terminal: false,
            timeout,
            record,
        } => attend(&engine, &container, &request, timeout, record),
        Company::Attended {
            on_terminal: true,
            timeout,
            record,
        } => look(&engine, &container, &request, timeout, record),
    }
}

/// Nothing of what the command writes is seen here, so a recording says no more than that it was started.
fn detach(engine: &Engine, container: &Name, request: &RunRequest) -> Result<ExitCode, Failure> {
    let recorder = recorder(engine, container, request, None)?;
    match engine.run_detached(container, request) {
        Ok(()) => {
            recorder.end();
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            recorder.withdraw();
            Err(not_started(error))
        }
    }
}

fn attend(
    engine: &Engine,
    container: &Name,
    request: &RunRequest,
    timeout: Option<Duration>,
    record: Option<(PathBuf, IfThere)>,
) -> Result<ExitCode, Failure> {
    // Before the command starts: a command that must be recorded and cannot be is not run.
    let record = record.as_ref();
    let record = record.map(|(file, if_there)| (file.as_path(), *if_there));
    let mut recorder = recorder(engine, container, request, record)?;
    let begun = Instant::now();
    let running = match engine.run(container, request) {
        Ok(running) => running,
        Err(error) => {
            recorder.withdraw();
            return unstarted(error, container, timeout);
        }
    };
    recorder.started();
    let killed_before = running.oom_kills_before.unwrap_or(0);
    let companion = Companion {
        timeout,
        begun,
        recorder,
    };
    let code = streams::carry(running, container, companion)
        .map_err(|failure| failure.exit_with(failure::COCKER_FAILED))?;
    tell_if_out_of_memory(engine, container, killed_before, code);
    Ok(code)
}

/// How many the kernel had killed in it before. Whoever was killed since cannot say why.
fn tell_if_out_of_memory(engine: &Engine, container: &Name, before: u64, code: ExitCode) {
    if code != ExitCode::from(signals::exit_code(SIGKILL)) {
        return;
    }
    let Some((_, limit)) = engine
        .oom_kills(container)
        .filter(|(kills, _)| *kills > before)
    else {
        return;
    };
    let limit = limit.map_or(String::new(), |bytes| format!(" (limit: {bytes} bytes)"));
    output::complain(&format!(
        "Error: memory ran out in container `{container}`{limit}: the kernel killed a process\n"
    ));
}

fn killed_before(engine: &Engine, container: &Name) -> u64 {
    engine.oom_kills(container).map_or(0, |(kills, _)| kills)
}

/// The user's terminal in front of one of the command's own. Without us it is hung up.
fn look(
    engine: &Engine,
    container: &Name,
    request: &RunRequest,
    timeout: Option<Duration>,
    record: Option<(PathBuf, IfThere)>,
) -> Result<ExitCode, Failure> {
    let failed = |failure: Failure| failure.exit_with(failure::COCKER_FAILED);
    terminal::require().map_err(failed)?;
    let command = as_typed(&request.program);
    let mut recorder = attach::recorder(container, &command, record.as_ref()).map_err(failed)?;
    let look = terminal::look();
    let killed_before = killed_before(engine, container);
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let session = match engine.run_on_terminal(container, request, &look) {
        Ok(session) => session,
        Err(error) => {
            recorder.withdraw();
            return unstarted(error, container, timeout);
        }
    };
    recorder.started();
    let number = session.number;
    let outcome = terminal::look_at(Sight {
        session,
        size: look.size,
        is_read_only: false,
        recorder,
        deadline,
    });
    match outcome.map_err(failed)? {
        Outcome::TookTooLong(session) => {
            // While somebody looks it can be found, and killed if it does not go.
            let ended = engine.end_session(container, &SessionTarget::Number(number));
            drop(session);
            if let Err(error) = ended {
                tracing::debug!("cannot end session {number}: {error}");
            }
            let allowed = timeout.unwrap_or_default();
            Ok(ExitCode::from(streams::took_too_long(container, allowed)))
        }
        Outcome::Left => {
            output::complain("the command was hung up\n");
            Ok(ExitCode::from(signals::exit_code(SIGHUP)))
        }
        other => {
            let code = attach::status(other, container, number).map_err(failed)?;
            tell_if_out_of_memory(engine, container, killed_before, code);
            Ok(code)
        }
    }
}

fn recorder(
    engine: &Engine,
    container: &Name,
    request: &RunRequest,
    record: Option<(&Path, IfThere)>,
) -> Result<Recorder, Failure> {
    let failed = |failure: Failure| failure.exit_with(failure::COCKER_FAILED);
    let recording = engine
        .begin_recording(container, WHAT)
        .map_err(|error| failed(error.into()))?;
    let title = Title {
        title: container.as_str(),
        command: &as_typed(&request.program),
        size: terminal::size_of_output(),
        term: None,
    };
    let encoder = Encoder::of_plain_output();
    Recorder::new(encoder, record, recording, &title).map_err(failed)
}

/// The command as one line. Its environment is no part of it.
fn as_typed(program: &Program) -> Vec<u8> {
    match program {
        Program::Shell(line) => line.as_bytes().to_vec(),
        Program::Arguments(arguments) => {
            let words = arguments.iter().map(|argument| argument.as_bytes());
            // Arguments of ours hold no NUL, which is all that cannot be quoted.
            shlex::bytes::try_join(words).unwrap_or_default()
        }
    }
}

/// What is said of a command that has not started; its time may have been over before.
fn unstarted(
    error: EngineError,
    container: &Name,
    timeout: Option<Duration>,
) -> Result<ExitCode, Failure> {
    match timeout {
        Some(allowed) if error.is_out_of_patience() => {
            Ok(ExitCode::from(streams::took_too_long(container, allowed)))
        }
        _ => Err(not_started(error)),
    }
}

fn not_started(error: EngineError) -> Failure {
    let code = run_failure_code(&error);
    Failure::from(error).exit_with(code)
}

/// 127 and 126 as a shell has them; else it was cocker that failed.
fn run_failure_code(error: &EngineError) -> u8 {
    match error.spawn_errno().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => failure::NOT_FOUND,
        Some(
            Errno::ACCESS
            | Errno::NOEXEC
            | Errno::ISDIR
            | Errno::NOTDIR
            | Errno::TXTBSY
            | Errno::LIBBAD,
        ) => failure::CANNOT_EXECUTE,
        Some(Errno::PERM | Errno::LOOP | Errno::NAMETOOLONG | Errno::TOOBIG | Errno::INVAL) => {
            failure::CANNOT_EXECUTE
        }
        Some(_) | None => failure::COCKER_FAILED,
    }
}
