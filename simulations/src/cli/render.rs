//! `simulate render`: pictures of a run that is in a file.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{Format, RenderArgs};
use super::source::Source;
use super::{Ending, Refusal, Verdict, terminal, trace_file};
use crate::case::Case;
use crate::execute::execute;
use crate::plan::Plan;
use crate::render::{self, Film};
use crate::trace::Trace;

pub(super) fn run(args: &RenderArgs) -> Ending {
    let plan = plan_of(args)?;
    let path = args.output.clone().unwrap_or_else(|| default_path(&args.run, args.format));
    let spinner = terminal::spinner("running it again, with the camera on");
    match args.format {
        Format::Html | Format::Svg => {
            let mut film = Film::new(&plan);
            let outcome = execute(&plan, Some(&mut film));
            let picture = if args.format == Format::Html { render::html } else { render::svg };
            write(&picture(&film, &plan, &outcome), &path)?;
        }
        Format::Shiviz | Format::Perfetto => {
            let mut trace = Trace::default();
            let _ = execute(&plan, Some(&mut trace));
            let log = if args.format == Format::Shiviz { render::shiviz } else { render::perfetto };
            write(&log(&plan, &trace), &path)?;
        }
    }
    spinner.finish_and_clear();
    if args.json {
        terminal::out(&format!("{:#}\n", json!({ "file": path })));
    } else {
        terminal::out(&format!("{}\n", path.display()));
    }
    Ok(Verdict::Pass)
}

/// Writes a picture of a run.
///
/// # Errors
///
/// The file cannot be written.
pub(super) fn write(text: &str, path: &Path) -> Result<(), Refusal> {
    std::fs::write(path, text).map_err(|error| Refusal::new(format!("{}: {error}", path.display())))
}

/// A run is a function of its plan, so the plan is all that is read, whatever the file.
fn plan_of(args: &RenderArgs) -> Result<Plan, Refusal> {
    let path = Path::new(&args.run);
    if let Some(seed) = args.seed {
        return Ok(Source::open(&args.run, &args.sets)?.plan(seed));
    }
    if path.extension().is_some_and(|extension| extension == "sim") {
        return Ok(Case::read(path).map_err(Refusal::new)?.plan);
    }
    if trace_file::is_name(path) {
        return trace_file::plan(path);
    }
    Ok(Source::open(&args.run, &args.sets)?.plan(0))
}

/// `case-2a.sim` becomes `case-2a.html`, `t.jsonl.zst` becomes `t.html`, `split-brain`
/// `split-brain.html`.
fn default_path(run: &str, format: Format) -> PathBuf {
    let name = [".sim", ".toml", ".zst"].iter().fold(run, |name, end| name.trim_end_matches(end));
    PathBuf::from(format!("{}.{}", name.trim_end_matches(".jsonl"), format.extension()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_called_like_its_run() {
        for (run, page) in [
            ("case-2a.sim", "case-2a.html"),
            ("t.jsonl.zst", "t.html"),
            ("dir/mine.toml", "dir/mine.html"),
            ("split-brain", "split-brain.html"),
        ] {
            assert_eq!(default_path(run, Format::Html), PathBuf::from(page));
        }
        assert_eq!(default_path("case-2a.sim", Format::Shiviz), PathBuf::from("case-2a.log"));
    }
}
