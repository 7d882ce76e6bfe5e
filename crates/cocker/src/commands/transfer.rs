//! `export` and `import`: images become files and files images.

use crate::failure::Failure;
use crate::output;
use crate::progress::ProgressLine;
use cocker_engine::{Engine, ExportRequest, Exported, ImportRequest};

pub fn export(engine: &Engine, request: &ExportRequest) -> Result<(), Failure> {
    let mut line = ProgressLine::new("export");
    let exported = engine.export(request, &mut |progress| line.show(progress));
    line.clear();
    let Exported {
        image,
        file,
        renamed,
    } = exported?;
    tracing::info!("wrote `{}`", file.display());
    if let Some(name) = renamed {
        output::complain(&format!(
            "Warning: others will see image `{image}` as `{name}`\n"
        ));
    }
    output::print_ok()
}

pub fn import(engine: &Engine, request: &ImportRequest) -> Result<(), Failure> {
    let mut line = ProgressLine::new("import");
    let imported = engine.import(request, &mut |progress| line.show(progress));
    line.clear();
    let image = imported?;
    tracing::info!("imported `{image}`");
    output::print_ok()
}
