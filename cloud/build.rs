//! Builds the dashboard with npm, for the binary to hold. Also says that migrations are part of the program.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

/// What the dashboard is made from, besides the files of [`FOLDERS`].
const FILES: [&str; 7] = [
    "dashboard/index.html",
    "dashboard/package.json",
    "dashboard/package-lock.json",
    "dashboard/vite.config.ts",
    "dashboard/svelte.config.js",
    "dashboard/tsconfig.json",
    "openapi.json",
];

/// Folders whose files the dashboard is made from.
const FOLDERS: [&str; 2] = ["dashboard/src", "dashboard/public"];

/// What the build itself writes among the sources; watching it would have every build follow the last.
const GENERATED: &str = "api.d.ts";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=migrations");
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    for folder in FOLDERS {
        watch(Path::new(folder));
    }
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error=dashboard: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Watches a folder's files one by one. A new one matters only once another, which changes for it, names it.
fn watch(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            watch(&path);
        } else if !path.ends_with(GENERATED) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo gives no OUT_DIR")?).join("dashboard");
    let dashboard = Path::new("dashboard");
    install(dashboard)?;
    // What an earlier build left must not go into the binary.
    if out.exists() {
        fs::remove_dir_all(&out).map_err(|error| format!("cannot remove {}: {error}", out.display()))?;
    }
    npm(dashboard, &["run", "build", "--", "--outDir", &out.display().to_string()])?;
    if !out.join("index.html").exists() {
        return Err(format!("npm run build made no index.html in {}", out.display()));
    }
    Ok(())
}

/// Installs the packages that package-lock.json names, unless just these are installed.
fn install(dashboard: &Path) -> Result<(), String> {
    let lock = dashboard.join("package-lock.json");
    let wanted = fs::read(&lock).map_err(|error| format!("cannot read {}: {error}", lock.display()))?;
    let installed = dashboard.join("node_modules/.installed-package-lock.json");
    if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    npm(dashboard, &["ci", "--no-audit", "--no-fund"])?;
    fs::write(&installed, wanted).map_err(|error| format!("cannot write {}: {error}", installed.display()))
}

fn npm(directory: &Path, arguments: &[&str]) -> Result<(), String> {
    let shown = format!("npm {}", arguments.join(" "));
    let output = Command::new("npm").args(arguments).current_dir(directory).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run npm ({error}); install Node.js 20 or later"))?;
    if output.status.success() {
        return Ok(());
    }
    // Cargo shows a build script's output only when it fails; stderr is where npm and vite complain.
    eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{shown} failed with {}; its output is above", output.status))
}
