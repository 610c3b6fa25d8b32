//! An image from domains that are built (`make image`): the system description for a board, with regions filled.
//! What differs between two images of one board is only that, so a test that wants other parameters waits a second.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use sysdesc::{Board, System};

use crate::project;

/// Where the SDK is if `MICROKIT_SDK` does not say.
const SDK: &str = "/opt/microkit-sdk-2.3.0";

/// What is to be built.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    pub board: String,
    /// Of the SDK: `release` or `debug`.
    pub config: String,
    /// The bytes of regions, by the variable that names the file: `params`, `anchor`.
    pub prefill: BTreeMap<String, Vec<u8>>,
    /// The text of a system description, in place of the project's.
    pub description: Option<String>,
    /// A domain whose program is the one with a fuse (`make faulty`).
    pub faulty: Option<String>,
    /// The program in the workload's place (`make tenant`).
    pub tenant: Option<String>,
}

impl Image {
    pub fn new(board: &str, config: &str) -> Self {
        Self {
            board: board.to_owned(),
            config: config.to_owned(),
            prefill: BTreeMap::new(),
            description: None,
            faulty: None,
            tenant: None,
        }
    }

    /// Builds it into a directory. The result is `loader.img` there, beside the tool's `capdl.json` and `report.txt`.
    pub fn build(&self, to: &Path) -> Result<PathBuf> {
        assemble(&self.board, &self.config, &self.system(to)?, to)
    }

    /// What the project ships, for this board. The bytes of regions are put into files in a directory.
    pub fn system(&self, to: &Path) -> Result<System> {
        let mut board = board(&self.board)?;
        for (name, bytes) in &self.prefill {
            let file = to.join(format!("{name}.bin"));
            fs::write(&file, bytes).with_context(|| file.display().to_string())?;
            ensure!(board.set(name, path(&file)?), "board {} has no variable {name}", self.board);
        }
        if let Some(tenant) = &self.tenant {
            ensure!(board.set("workload", tenant), "board {} has no variable workload", self.board);
        }
        let text = self.description.clone().map_or_else(|| read(&project().join("system.xml")), Ok)?;
        let mut system = sysdesc::elaborate(&text, &board)?;
        if let Some(domain) = &self.faulty {
            let image = system.image_mut(domain).with_context(|| format!("there is no domain {domain}"))?;
            image.path = format!("faulty-{}", image.path);
        }
        Ok(system)
    }
}

/// `boards/BOARD.toml`.
pub fn board(name: &str) -> Result<Board> {
    let file = project().join("boards").join(format!("{name}.toml"));
    Board::parse(&read(&file)?).with_context(|| file.display().to_string())
}

/// Puts any system together from the domains that are built, as [`Image::build`] does.
pub fn assemble(board: &str, config: &str, system: &System, to: &Path) -> Result<PathBuf> {
    let (description, image) = (to.join("system.xml"), to.join("loader.img"));
    fs::write(&description, system.to_xml("system.xml")).with_context(|| description.display().to_string())?;
    let sdk = sdk()?;
    let mut tool = Command::new(sdk.join("bin/microkit"));
    tool.arg(&description).args(["--board", board, "--config", config]);
    tool.arg("--search-path").arg(programs(board, config)?).arg("-o").arg(&image);
    tool.arg("-r").arg(to.join("report.txt")).arg("--capdl-json").arg(to.join("capdl.json"));
    let output = tool.output().with_context(|| format!("{}", sdk.display()))?;
    if !output.status.success() {
        bail!("the Microkit tool refuses the system:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(image)
}

/// Where the domains' programs are.
fn programs(board: &str, config: &str) -> Result<PathBuf> {
    let built = project().join("target/pds").join(format!("{board}-{config}"));
    let target = fs::read_dir(&built).into_iter().flatten().flatten().map(|entry| entry.path().join("release"));
    target
        .into_iter()
        .find(|dir| dir.join("keystore").is_file())
        .with_context(|| format!("the domains are not built: make image BOARD={board} CONFIG={config}"))
}

/// The Microkit SDK.
pub fn sdk() -> Result<PathBuf> {
    let sdk = PathBuf::from(std::env::var_os("MICROKIT_SDK").unwrap_or_else(|| SDK.into()));
    let there = sdk.join("bin/microkit").is_file();
    ensure!(there, "no Microkit SDK at {}: README.md says where to get it; set MICROKIT_SDK", sdk.display());
    Ok(sdk)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
