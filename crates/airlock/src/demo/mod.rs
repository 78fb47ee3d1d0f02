//! x
use crate::commands::Cx;
use airlock_engine::error::Result;
pub async fn run(
    _cx: &Cx,
    _port: u16,
    _dir: Option<std::path::PathBuf>,
    _exit: bool,
) -> Result<std::process::ExitCode> {
    let _ = crate::commands::listen;
    Ok(std::process::ExitCode::SUCCESS)
}
