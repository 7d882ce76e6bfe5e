//! `sessions`: what is open in a booted container, and the end of one.

use crate::failure::Failure;
use crate::listing;
use crate::options::SessionsOf;
use crate::output;
use cocker_engine::Engine;

pub fn execute(engine: &Engine, said: &SessionsOf) -> Result<(), Failure> {
    match said {
        SessionsOf::Listed(container, form) => {
            let sessions = engine.sessions(container)?;
            output::print(listing::sessions::table(&sessions, *form))
        }
        SessionsOf::Ended(container, target) => {
            engine.end_session(container, target)?;
            output::print_ok()
        }
    }
}
