//! Puts images together from domains that are built: `make image` does it with this, and so do tests and the bench.
//!
//! What differs between two images of one board is only the system description, so a test that wants other parameters
//! waits a second.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    capdl::Spec,
    kernel::{self, Properties},
    policy::{KEYSTORE, Policy},
    reset, rules,
};
use crate::description::{self, Board, System, boards};

/// The checkout that this program was built in.
const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Where the SDK is if `MICROKIT_SDK` does not say.
const SDK: &str = "/opt/microkit-sdk-2.3.0";

/// What is to be built: the product's image for a board, and how it differs from that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    pub board: String,
    /// Of the SDK: `release` or `debug`.
    pub config: String,
    /// The bytes of regions, by the variable that names the file: `params`, `anchor`.
    pub prefill: BTreeMap<String, Vec<u8>>,
    /// The text of a system description, in place of the project's.
    pub description: Option<String>,
    /// Domains whose program is the one with a fuse (`make faulty`).
    pub faulty: Vec<String>,
    /// The program in the workload's place (`make tenant`).
    pub tenant: Option<String>,
}

impl Recipe {
    pub fn new(board: &str, config: &str) -> Self {
        Self {
            board: board.to_owned(),
            config: config.to_owned(),
            prefill: BTreeMap::new(),
            description: None,
            faulty: Vec::new(),
            tenant: None,
        }
    }

    /// Builds it into a directory, and judges kernel and image. The result is `loader.img` there, beside the tool's
    /// `capdl.json` and `report.txt`.
    pub fn build(&self, to: &Path) -> Result<PathBuf> {
        fs::create_dir_all(to).with_context(|| to.display().to_string())?;
        assemble(&self.board, &self.config, &self.system(to)?, Some(&KEYSTORE), to)
    }

    /// The system to build. The bytes of regions are put into files in a directory.
    pub fn system(&self, to: &Path) -> Result<System> {
        let mut board = board(&self.board)?;
        for (name, bytes) in &self.prefill {
            let file = to.join(format!("{name}.bin"));
            fs::write(&file, bytes).with_context(|| file.display().to_string())?;
            let file = file.canonicalize().with_context(|| file.display().to_string())?;
            ensure!(board.set(name, path(&file)?), "board {} has no variable {name}", self.board);
        }
        if let Some(tenant) = &self.tenant {
            ensure!(board.set("workload", tenant), "board {} has no variable workload", self.board);
        }
        let text = self.description.clone().map_or_else(|| read(&project().join("system.xml")), Ok)?;
        let mut system = description::elaborate(&text, &board)?;
        for domain in &self.faulty {
            let image = system.image_mut(domain).with_context(|| format!("there is no domain {domain}"))?;
            image.path = format!("faulty-{}", image.path);
        }
        Ok(system)
    }
}

/// `boards/BOARD.toml`.
pub fn board(name: &str) -> Result<Board> {
    boards::read(&project().join("boards"), name)
}

/// The boards that have an image.
pub fn sel4_boards() -> Result<Vec<String>> {
    boards::sel4(&project().join("boards"))
}

/// Puts any system together. The image is held to the rules with this policy; the systems that the bench measures are
/// held to none, because they give what the product gives to one domain to another one too.
pub fn assemble(board: &str, config: &str, system: &System, policy: Option<&Policy<'_>>, to: &Path) -> Result<PathBuf> {
    let sdk = sdk()?;
    let programs = programs(board, config)?;
    check_kernel(&sdk, &project().join("kernel-config"), board, config)?;
    let (description, image, capdl) = (to.join("system.xml"), to.join("loader.img"), to.join("capdl.json"));
    let origin = format!("system.xml for {board}");
    let restartable = to.join("programs");
    let put_together = reset::resettable(system, &programs, &restartable)?;
    fs::write(&description, put_together.to_xml(&origin)).with_context(|| description.display().to_string())?;
    let mut tool = Command::new(sdk.join("bin/microkit"));
    tool.arg(&description)
        .args(["--board", board, "--config", config])
        .arg("--search-path")
        .args([restartable, programs]);
    tool.arg("-o").arg(&image).arg("-r").arg(to.join("report.txt")).arg("--capdl-json").arg(&capdl);
    let output = tool.output().with_context(|| sdk.display().to_string())?;
    if !output.status.success() {
        bail!("the Microkit tool refuses the system:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    if let Some(policy) = policy
        && let Err(refused) = check(system, &self::board(board)?, policy, &capdl)
    {
        // Nobody boots it, nor gives it away.
        fs::remove_file(&image).with_context(|| image.display().to_string())?;
        return Err(refused);
    }
    Ok(image)
}

/// Whether an image keeps the rules, by its capDL.
pub fn check(system: &System, board: &Board, policy: &Policy<'_>, capdl: &Path) -> Result<()> {
    let spec = Spec::parse(&read(capdl)?).with_context(|| capdl.display().to_string())?;
    let broken = rules::check(system, board, policy, &spec);
    if !broken.is_empty() {
        let lines: Vec<_> = broken.iter().map(ToString::to_string).collect();
        bail!("{} breaks rules:\n  {}", capdl.display(), lines.join("\n  "));
    }
    Ok(())
}

/// Whether the SDK's kernel is the one that the design counts on, as the files in `demands` have it.
pub fn check_kernel(sdk: &Path, demands: &Path, board: &str, config: &str) -> Result<()> {
    let built = sdk.join("board").join(board).join(config).join("include/kernel/gen_config.json");
    let built: Properties = serde_json::from_str(&read(&built)?).with_context(|| built.display().to_string())?;
    let files = ["all", config, board].map(|name| format!("{name}.toml"));
    let mut wanted = Vec::new();
    for file in &files {
        let path = demands.join(file);
        let properties = toml::from_str(&read(&path)?).with_context(|| path.display().to_string())?;
        wanted.push((file.as_str(), properties));
    }
    let unmet = kernel::unmet(&wanted, &built);
    if !unmet.is_empty() {
        bail!("the kernel for {board} {config} is not the one to count on:\n  {}", unmet.join("\n  "));
    }
    Ok(())
}

/// The Microkit SDK.
pub fn sdk() -> Result<PathBuf> {
    let sdk = PathBuf::from(std::env::var_os("MICROKIT_SDK").unwrap_or_else(|| SDK.into()));
    let there = sdk.join("bin/microkit").is_file();
    ensure!(there, "no Microkit SDK at {}: README.md says where to get it; set MICROKIT_SDK", sdk.display());
    Ok(sdk)
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

fn project() -> &'static Path {
    Path::new(PROJECT)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
