//! The rules of the code that can be checked by reading it.

use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 100;

/// Folders of cores: no task, no clock, no randomness of the system's.
const CORES: [&str; 4] = ["protocol/src", "src/broker", "src/storage", "gossip/src"];
/// Files inside those folders that are shells.
const SHELLS: [&str; 1] = ["gossip/src/agent"];
/// What a core must not name.
const FOREIGN_TO_CORES: [&str; 7] = [
    "tokio",
    "Instant::now",
    "SystemTime::now",
    "thread_rng",
    "rand::rng(",
    "thread::spawn",
    "thread::sleep",
];

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Lines before the tests at the bottom of the file.
    fn lines_before_tests(&self) -> Vec<&str> {
        self.text.lines().take_while(|line| *line != "#[cfg(test)]").collect()
    }

    /// The same, without comments.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.lines_before_tests().into_iter().map(|line| line.split("//").next().unwrap_or(""))
    }

    /// Whether this is code of the library and the program rather than tests of them.
    fn is_product(&self) -> bool {
        !["tests/", "benches/", "examples/"].iter().any(|part| self.path.contains(part))
            && !self.path.ends_with("tests.rs")
    }
}

/// Every Rust file of the repository, in a stable order.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["protocol", "gossip", "admin", "simulations", "src", "tests", "benches"] {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    assert!(files.len() > 20, "the sources are where they should be");
    files
        .iter()
        .map(|file| Source {
            path: file.strip_prefix(root).expect("below the root").display().to_string(),
            text: std::fs::read_to_string(file).expect("a text file"),
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[track_caller]
fn assert_none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn files_are_short_enough_to_read() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| source.is_product() || source.path.starts_with("tests/it"))
        .map(|source| (source.lines_before_tests().len(), &source.path))
        .filter(|(lines, _)| *lines > FILE_LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert_none(&long, "files have at most 500 lines before their tests");
}

#[test]
fn lines_are_short_enough_to_read() {
    let mut long = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            if line.chars().count() > LINE_CHARS_MAX {
                long.push(format!("{}:{}", source.path, index + 1));
            }
        }
    }
    assert_none(&long, "lines have at most 100 characters");
}

#[test]
fn functions_are_short_enough_to_read() {
    let mut long = Vec::new();
    for source in sources().iter().filter(|source| source.is_product()) {
        let lines = source.lines_before_tests();
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let declared = line.trim_start().split(['(', '<']).next().unwrap_or("");
            let is_function = declared.split(' ').any(|word| word == "fn");
            if !is_function || declared.starts_with("//") || line.ends_with("{}") {
                continue;
            }
            let end = format!("{}}}", &line[..indent]);
            let length = lines[start..].iter().take_while(|line| **line != end).count() + 1;
            let has_body = lines[start..start + length.min(lines.len() - start)]
                .iter()
                .any(|line| line.ends_with('{'));
            if has_body && !line.ends_with(';') && length > FUNCTION_LINES_MAX {
                long.push(format!("{}:{}: {length} lines", source.path, start + 1));
            }
        }
    }
    assert_none(&long, "functions have at most 70 lines");
}

#[test]
fn cores_read_no_clock_start_no_task_and_draw_no_randomness_of_their_own() {
    let mut broken = Vec::new();
    for source in sources() {
        let is_core = CORES.iter().any(|core| source.path.starts_with(core));
        let is_shell = SHELLS.iter().any(|shell| source.path.starts_with(shell));
        if !is_core || is_shell || !source.is_product() {
            continue;
        }
        for (index, line) in source.code().enumerate() {
            for word in FOREIGN_TO_CORES {
                if line.contains(word) {
                    broken.push(format!("{}:{}: {word}", source.path, index + 1));
                }
            }
        }
    }
    assert_none(&broken, "cores take time and randomness as arguments");
}

/// Packages of cores; gossip is one without its agent.
const CORE_PACKAGES: [&str; 4] =
    ["grapevine-protocol", "grapevine-storage", "grapevine-broker", "grapevine-gossip"];
/// What tasks, threads and the system's randomness come from.
const PACKAGES_OF_SHELLS: [&str; 5] = ["tokio", "mio", "getrandom", "rayon", "socket2"];

/// Names of all packages that `package` is built with, as cargo says, but not of its tests'.
fn packages_of(package: &str) -> Vec<String> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--no-default-features"])
        .args(["--prefix", "none", "--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("names");
    text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

#[test]
fn cores_cannot_see_a_task_a_socket_or_the_systems_randomness_even_by_accident() {
    let mut broken = Vec::new();
    for core in CORE_PACKAGES {
        let packages = packages_of(core);
        assert!(packages.len() > 2, "{core}: {packages:?}");
        let foreign = packages.iter().filter(|name| PACKAGES_OF_SHELLS.contains(&name.as_str()));
        broken.extend(foreign.map(|name| format!("{core} is built with {name}")));
    }
    // The simulator runs seeds in threads, which the runs do not see.
    let of_simulator = packages_of("grapevine-simulations");
    let foreign =
        of_simulator.iter().filter(|name| ["tokio", "getrandom"].contains(&name.as_str()));
    broken.extend(foreign.map(|name| format!("the simulator is built with {name}")));
    assert_none(&broken, "cores are built without shells");
}

#[test]
fn clippy_keeps_clocks_and_hashed_orders_out_of_every_core() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for core in ["protocol", "gossip", "simulations", "src/broker", "src/storage"] {
        let file = root.join(core).join("clippy.toml");
        let rules = std::fs::read_to_string(&file).expect("a clippy.toml of its own");
        for word in ["HashMap", "HashSet", "RandomState", "Instant", "SystemTime", "spawn"] {
            assert!(rules.contains(&format!("::{word}\"")), "{core} allows {word}");
        }
    }
}

#[test]
fn bincode_stays_behind_one_file() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| source.path != "gossip/src/codec.rs" && source.path != "tests/it/tidy.rs")
        .filter(|source| source.code().any(|line| line.contains("bincode")))
        .map(|source| source.path.clone())
        .collect();
    assert_none(&broken, "only gossip/src/codec.rs names bincode");
}

#[test]
fn nothing_unfinished_is_left_in_the_product() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.is_product()) {
        for (index, line) in source.code().enumerate() {
            for word in ["todo!(", "unimplemented!(", "dbg!("] {
                if line.contains(word) {
                    broken.push(format!("{}:{}: {word}", source.path, index + 1));
                }
            }
        }
    }
    assert_none(&broken, "no todo!, unimplemented! or dbg!");
}

#[test]
fn the_compatibility_page_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/compatibility.md")).expect("the page");
    let sources = sources();
    let mut named = 0;
    let mut unknown = Vec::new();
    for word in page.split('`').skip(1).step_by(2) {
        let is_name = word.matches('_').count() > 3
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !is_name {
            continue;
        }
        named += 1;
        let declaration = format!("fn {word}(");
        if !sources.iter().any(|source| source.text.contains(&declaration)) {
            unknown.push(word.to_owned());
        }
    }
    assert!(named > 10, "the page names tests");
    assert_none(&unknown, "every test named in docs/compatibility.md exists");
}
