//! One file a command, or a family of them: the engine's call, and what is printed.

mod attach;
mod boot;
mod boot_all;
mod convert;
mod create;
mod destroy;
mod files;
mod housekeeping;
mod image;
mod install_test;
mod instantiate;
mod kill;
mod list;
mod logs;
mod pause;
mod repository;
mod root;
mod run;
mod sessions;
mod set;
mod several;
mod shutdown;
mod stack;
mod stats;
mod top;
mod transfer;

use crate::environment;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::options::{self, Command};
use crate::output;

/// Does what was meant and says how the process ends.
pub fn execute(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Help(text) => output::print(text)?,
        Command::Version => output::print(version())?,
        Command::Completion(shell) => output::print(options::completion_script(shell))?,
        Command::Images(form) => list::images(&environment::engine()?, form)?,
        Command::Containers(form) => list::containers(&environment::engine()?, form)?,
        Command::Stats(said) => stats::execute(&environment::engine()?, &said)?,
        Command::Top(interval) => return top::execute(&environment::engine()?, interval),
        Command::Root(container) => {
            root::execute(&environment::engine_about(Some(&container))?, &container)?;
        }
        Command::History(image, form) => stack::history(&environment::engine()?, &image, form)?,
        Command::Diff(compared, form) => stack::diff(&environment::engine()?, &compared, form)?,
        Command::Whence(request, path, form) => {
            stack::whence(&environment::engine()?, &request, &path, form)?;
        }
        Command::InstallTest(version) => install_test::execute(&environment::engine()?, &version)?,
        Command::SetVersion(reference, version) => {
            image::set_version(&environment::engine()?, &reference, &version)?;
        }
        Command::CopyImage(from, name, version) => {
            image::copy(&environment::engine()?, &from, &name, &version)?;
        }
        Command::RmImage(reference, on_error) => {
            image::remove(&environment::engine()?, &reference, on_error)?;
        }
        Command::Export(said) => transfer::export(&environment::engine()?, &said)?,
        Command::Import(said) => transfer::import(&environment::engine()?, &said)?,
        Command::Ssearch(said, form) => {
            repository::search(&environment::engine()?, said, form)?;
        }
        Command::Spush(said) => repository::push(&environment::engine()?, said)?,
        Command::Spull(said) => repository::pull(&environment::engine()?, said)?,
        Command::Srm(said) => repository::remove(&environment::engine()?, said)?,
        Command::ToImage(said) => {
            let engine = environment::engine_about(Some(&said.container))?;
            convert::to_image(&engine, &said)?;
        }
        Command::ToContainer(said) => convert::to_container(&environment::engine()?, &said)?,
        Command::Prune(pruning) => housekeeping::prune(&environment::engine()?, &pruning)?,
        Command::Df(form) => housekeeping::usage(&environment::engine()?, form)?,
        Command::Check(form) => housekeeping::check(&environment::engine()?, form)?,
        Command::Doctor(request, form) => housekeeping::doctor(request, form)?,
        Command::Create(creation) => return create::execute(*creation),
        Command::Boot(booting) => return boot::execute(booting),
        Command::BootAll => boot_all::execute(&environment::engine()?)?,
        Command::Attach(attaching) => return attach::execute(attaching),
        Command::Sessions(said) => sessions::execute(&environment::engine()?, &said)?,
        Command::Run(run) => return run::execute(*run),
        Command::Logs(said) => logs::execute(&environment::engine()?, &said)?,
        Command::Instantiate(said) => instantiate::execute(&said)?,
        Command::Shutdown(container, timeout, on_error) => {
            shutdown::execute(&environment::engine()?, &container, timeout, on_error)?;
        }
        Command::ShutdownAll(timeout) => shutdown::all(&environment::engine()?, timeout)?,
        Command::Kill(container, on_error) => {
            kill::execute(&environment::engine()?, &container, on_error)?
        }
        Command::Destroy(container, if_booted, on_error) => {
            destroy::execute(&environment::engine()?, &container, if_booted, on_error)?;
        }
        Command::SetVip(container, address) => {
            set::vip(&environment::engine()?, &container, address)?;
        }
        Command::SetPortMapping(container, ports) => {
            set::port_mapping(&environment::engine()?, &container, ports)?;
        }
        Command::SetHostEth(container, uplink) => {
            set::host_eth(&environment::engine()?, &container, uplink)?;
        }
        Command::SetVolume(container, volumes) => {
            set::volume(&environment::engine()?, &container, volumes)?;
        }
        Command::SetIsolation(container, request) => {
            set::isolation(&environment::engine()?, &container, &request)?;
        }
        Command::SetLimits(container, changes) => {
            set::limits(&environment::engine()?, &container, &changes)?;
        }
        Command::SetRestart(container, policy) => {
            set::restart(&environment::engine()?, &container, policy)?;
        }
        Command::Enable(container, after, on_error) => {
            set::enabled(&environment::engine()?, &container, &after, on_error)?;
        }
        Command::Disable(container) => set::disabled(&environment::engine()?, &container)?,
        Command::Pause(container) => pause::pause(&environment::engine()?, &container)?,
        Command::Resume(container) => pause::resume(&environment::engine()?, &container)?,
        Command::Put(from, request) => {
            let engine = environment::engine_about(Some(&request.container))?;
            files::put(&engine, from, &request)?;
        }
        Command::Get(to, request) => {
            let engine = environment::engine_about(Some(&request.container))?;
            files::get(&engine, to, &request)?;
        }
        Command::Release(end) => environment::engine()?.release(end)?,
        Command::BootAgain(lock) => environment::engine()?.boot_again(lock)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn version() -> String {
    format!(
        "cocker v{} build {}\n",
        env!("CARGO_PKG_VERSION"),
        env!("COCKER_BUILD_TIME")
    )
}
