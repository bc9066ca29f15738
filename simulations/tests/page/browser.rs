//! The page in a real browser, where there is one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Chromium, by any of its names.
fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}

/// What the browser made of a page, and what it had to say about it.
pub(crate) struct Opened {
    /// The document after its scripts ran, without the scripts.
    pub dom: String,
    /// Lines of the console and of the browser about the page.
    pub complaints: Vec<String>,
}

/// Opens a page without any network; `None`, said aloud, where no browser is installed.
pub(crate) fn open(page: &str) -> Option<Opened> {
    let Some(browser) = browser() else {
        println!("SKIPPED: no Chromium in PATH");
        return None;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("page.html");
    std::fs::write(&file, page).expect("a file");
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        .args(["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"])
        // Time of the page passes as fast as it can: no wait depends on the machine.
        .args(["--virtual-time-budget=5000", "--window-size=1400,1000", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg("--dump-dom")
        .arg(url(&file))
        .output()
        .expect("the browser starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints = said
        .lines()
        .filter(|line| line.contains("CONSOLE") || line.contains("Content Security Policy"))
        .map(str::to_owned)
        .collect();
    let dom = String::from_utf8_lossy(&output.stdout);
    let (dom, _) = dom
        .split_once("<script type=\"application/json\"")
        .unwrap_or_else(|| panic!("nothing shown: {said}"));
    Some(Opened { dom: dom.to_owned(), complaints })
}

fn url(file: &Path) -> String {
    format!("file://{}", file.display())
}
