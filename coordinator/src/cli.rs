//! What can be typed. Parsing never touches the world: every value here is as it was written, checked for its form only.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pipeline::Error;
use pipeline::task::TaskName;

use crate::export::Compress;
use crate::price::Arch;
use crate::units::Bytes;

/// Filter, segment, label and measure volumes that don't fit into memory.
///
/// Volumes are Zarr arrays on a disk, in a bucket (s3://), or on a web server to read from. A job is a list of steps; its
/// answers are an OME-Zarr image, an object table and a histogram, equal to those of the whole array computed at once.
#[derive(Debug, Parser)]
#[command(name = "voxmill", version, max_term_width = 110, disable_help_subcommand = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Examples:
  voxmill demo
  voxmill import scan.tif scan.zarr --voxel-size 1.2um
  voxmill run scan.zarr --steps 'median size=3 | threshold method=otsu | label connectivity=26 min_voxels=50'
  voxmill run job.toml --workers 8 --memory 4GiB
  voxmill plan s3://lab/scan.zarr -o s3://lab/out --steps 'threshold method=otsu | label' --executor lambda
  voxmill run s3://lab/scan.zarr -o s3://lab/out --steps 'threshold method=otsu | label' --executor lambda --max-usd 2

AWS settings are the standard ones (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL_S3 ...).

Exit codes: 0 done, 1 internal error, 2 invalid request or out of memory, 3 tasks failed for reasons of several kinds, or
--max-usd is reached, 4 store or function unavailable or disk full, 5 bad data, 130 interrupted. After 3, 4 and 130 the same command resumes.";

const VERIFY_EXAMPLES: &str =
    "Filtered images must come out bit for bit; labels must say the same as the image they were made of.

Examples:
  voxmill verify scan-voxmill
  voxmill verify scan-voxmill --windows 100 --seed 7 --json";

const REPLAY_EXAMPLES: &str = "The run itself is only read. Tasks after the first stage need what the stages before left: an unfinished run has it, and
a finished one that was run with --keep.

Examples:
  voxmill replay scan-voxmill 1:0-4
  VOXMILL_LOG=debug voxmill replay scan-voxmill 3:120-130 --to task";

const SLICE_EXAMPLES: &str = "Examples:
  voxmill slice scan.zarr -o middle.png
  voxmill slice scan.zarr --axis y --at 120 --window -200,1200 -o bones.png
  voxmill slice scan-voxmill/labels.zarr --level 1 -o cells.png";

const EXPORT_EXAMPLES: &str =
    "Voxel size and unit go along, where tifffile, ImageJ and Bio-Formats look for them. Bool becomes uint8.

Examples:
  voxmill export scan-voxmill/labels.zarr labels.tif --compress deflate
  voxmill export scan.zarr corner.tif --region 0:64,0:512,0:512 --channel 1";

const TABLE_EXAMPLES: &str = "Examples:
  voxmill table scan-voxmill
  voxmill table scan-voxmill --csv > objects.csv
  voxmill table scan-voxmill --json | head -3";

const COMPLETIONS_EXAMPLES: &str = "Examples:
  voxmill completions bash > ~/.local/share/bash-completion/completions/voxmill
  voxmill completions zsh > ~/.zfunc/_voxmill
  voxmill completions fish > ~/.config/fish/completions/voxmill.fish";
const IMPORT_EXAMPLES: &str = "Examples:
  TIFF, BigTIFF, ImageJ, OME-TIFF   voxmill import scan.tif scan.zarr
  one channel and time point        voxmill import cells.ome.tif cells.zarr --channel 1 --time 0
  a folder of TIFFs, s2 before s10  voxmill import slices/ scan.zarr --voxel-size 1.2um
  NIfTI, also .hdr with .img        voxmill import head.nii.gz head.zarr
  NRRD, also .nhdr                  voxmill import brain.nrrd brain.zarr
  NumPy                             voxmill import grains.npy grains.zarr
  NumPy in a zip                    voxmill import arrays.npz grains.zarr --member grains
  raw voxels, x fastest             voxmill import foam.raw foam.zarr --shape 400,512,512 --dtype uint16 --order big

What a file says of the size of its voxels is kept, and replaced by --voxel-size. What is packed is unpacked once, front
to back; a slab of it that --memory can't hold is kept in a nameless file next to DESTINATION meanwhile.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Import the example volume, run a pipeline on it, say where the answers are
    Demo {
        /// Where to; made if need be
        #[arg(default_value = "voxmill-demo")]
        folder: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Turn TIFF, NIfTI, NRRD, NumPy or raw files into OME-Zarr
    #[command(after_long_help = IMPORT_EXAMPLES)]
    Import(Import),
    /// Show shape, type, chunks, codecs, units and levels of an array
    Info {
        /// Array or group
        url: String,
        #[command(flatten)]
        pick: Picked,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a job would do: stages, blocks, bytes, memory
    Plan {
        #[command(flatten)]
        job: JobArgs,
        #[command(flatten)]
        how: How,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// The stages as a graph, for Graphviz
        #[arg(long, conflicts_with = "json")]
        dot: bool,
        /// Try some blocks first, here and for nothing but this: the price is then nearer to the truth
        #[arg(long)]
        calibrate: bool,
    },
    /// Run a job, or go on with it where it was stopped
    Run {
        #[command(flatten)]
        job: JobArgs,
        #[command(flatten)]
        how: How,
        /// Print the summary as JSON on stdout
        #[arg(long)]
        json: bool,
    },
    /// Show how far the run in an output is
    Status {
        /// Output of a run
        output: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Read every answer of a finished run and compare it with what was written; compute parts of the images anew
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        /// Output of a run
        output: String,
        /// Windows of each image that are computed anew, across the seams of blocks
        #[arg(long, value_name = "N", default_value_t = 8)]
        windows: u64,
        /// Look at the same windows as a call that told this seed [default: by chance]
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// Memory for the whole process
        #[arg(long, default_value = "1GiB", value_name = "SIZE")]
        memory: Bytes,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Say nothing but errors
        #[arg(long, short)]
        quiet: bool,
    },
    /// Run one task of a run again, beside it, and compare what it writes with what the run has
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay {
        /// Output of a run
        output: String,
        /// The task, as messages and `status` name it: the stage's number and its units (3:120-130), or 3:end
        #[arg(value_parser = task_name)]
        task: TaskName,
        /// Keep what it writes in this folder
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Threads that compute [default: one per core]
        #[arg(long, value_name = "N")]
        workers: Option<usize>,
        /// Memory for the whole process
        #[arg(long, default_value = "1GiB", value_name = "SIZE")]
        memory: Bytes,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a run's own state, and of an unfinished run what it had written
    Clean {
        /// Output of a run
        output: String,
    },
    /// Write one plane of an array as PNG
    #[command(after_help = SLICE_EXAMPLES)]
    Slice {
        /// Array or group
        url: String,
        /// Axis the plane is perpendicular to: z, y or x
        #[arg(long, default_value = "z")]
        axis: String,
        /// Index of the plane along the axis [default: the middle]
        #[arg(long)]
        at: Option<usize>,
        /// The PNG to write
        #[arg(short, long)]
        output: PathBuf,
        /// Values that are black and white [default: the plane's least and greatest; uint8 as it is,
        /// masks of 0 and 1 in black and white]
        #[arg(long, value_name = "LO,HI", allow_hyphen_values = true, conflicts_with = "labels")]
        window: Option<String>,
        /// A colour for each number, as for images that say they hold labels; 0 is black
        #[arg(long)]
        labels: bool,
        #[command(flatten)]
        pick: Picked,
    },
    /// Add coarser levels to an OME-Zarr image, so that viewers can show it from afar
    Pyramid(Pyramid),
    /// Write an image, or a part of it, as a BigTIFF of one page for each plane
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Export),
    /// Show the object table of a run, or write it as CSV or JSON
    #[command(after_help = TABLE_EXAMPLES)]
    Table {
        /// Output of a run, or a Parquet file
        output: String,
        /// All rows as comma-separated values
        #[arg(long, conflicts_with = "json")]
        csv: bool,
        /// All rows, a JSON object on each line
        #[arg(long)]
        json: bool,
        /// Which table: objects, contacts, or the name of a saved step
        #[arg(long, default_value = "objects")]
        name: String,
        /// Write to a file [default: stdout]
        #[arg(short = 'o', long = "to", value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Print a script that completes voxmill's commands and flags in a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of a job file
    Schema,
    /// Explain a command, or `steps`: each step with its parameters, defaults and twin in scipy or scikit-image
    Help {
        /// A command, or steps
        topic: Option<String>,
    },
}

/// Which of several images an input holds.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Picked {
    /// Level of a multiscale group, 0 being the finest
    #[arg(long)]
    pub(crate) level: Option<usize>,
    /// Channel, from 0
    #[arg(long)]
    pub(crate) channel: Option<usize>,
    /// Time point, from 0
    #[arg(long)]
    pub(crate) time: Option<usize>,
    /// Image of a series, from 0
    #[arg(long)]
    pub(crate) series: Option<usize>,
}

/// How images are written.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Written {
    #[command(flatten)]
    pub(crate) stored: Stored,
    /// Levels of each image: auto (halved until no axis is longer than 256 voxels), none, or their number [default: auto]
    #[arg(long, value_name = "auto|none|N")]
    pub(crate) levels: Option<String>,
    /// Version of OME-Zarr: 0.5, or 0.4, which has no shards [default: 0.5]
    #[arg(long, value_name = "VERSION")]
    pub(crate) ome: Option<String>,
}

/// How arrays are stored.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Stored {
    /// Voxels along each side of a chunk: N or z,y,x [default: 128]
    #[arg(long, value_name = "N|Z,Y,X")]
    pub(crate) chunks: Option<String>,
    /// Chunks along each side of a shard: N, z,y,x or none [default: 2]
    #[arg(long, value_name = "N|Z,Y,X|none")]
    pub(crate) shards: Option<String>,
    /// none, zstd[:level], gzip[:level] or blosc[:compressor[:level]] [default: by kind of output]
    #[arg(long)]
    pub(crate) codec: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// TIFF file or folder of TIFFs, .nii, .nii.gz, .hdr with .img, .nrrd, .nhdr, .npy, .npz, .npy in a zip, raw voxels
    pub(crate) source: PathBuf,
    /// The OME-Zarr group to make
    pub(crate) destination: String,
    #[command(flatten)]
    pub(crate) write: Written,
    /// Size of a voxel with its unit, instead of what the file says: 1.2um, or z,y,x as in 2,0.5,0.5um
    #[arg(long, value_name = "SIZE")]
    pub(crate) voxel_size: Option<String>,
    /// Channel to import, from 0, of a file with several
    #[arg(long, value_name = "N")]
    pub(crate) channel: Option<usize>,
    /// Time point to import, from 0, of a file with several
    #[arg(long, value_name = "N")]
    pub(crate) time: Option<usize>,
    /// Array to import of an archive with several
    #[arg(long, value_name = "NAME")]
    pub(crate) member: Option<String>,
    /// Raw voxels: their shape
    #[arg(long, value_name = "Z,Y,X", requires = "dtype")]
    pub(crate) shape: Option<String>,
    /// Raw voxels: their type, as numpy calls it (uint8, int16, float32, ...)
    #[arg(long, requires = "shape")]
    pub(crate) dtype: Option<String>,
    /// Raw voxels: the order of their bytes, little or big [default: little]
    #[arg(long, requires = "shape")]
    pub(crate) order: Option<String>,
    /// Raw voxels: bytes before the first [default: 0]
    #[arg(long, value_name = "BYTES", requires = "shape")]
    pub(crate) offset: Option<u64>,
    /// Memory for the whole process
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    pub(crate) memory: Bytes,
    /// Replace what is at the destination
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Say nothing
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Levels are made of the coarsest that is there, and the group is replaced in one piece when they are whole: a call that
/// was stopped leaves it as it was.
#[derive(Debug, Args)]
pub(crate) struct Pyramid {
    /// The OME-Zarr group, version 0.4 or 0.5
    pub(crate) url: String,
    /// Levels it is to have: auto (until no axis is longer than 256 voxels), or their number, the image being the first
    #[arg(long, value_name = "auto|N", default_value = "auto")]
    pub(crate) levels: String,
    #[command(flatten)]
    pub(crate) stored: Stored,
    /// The voxels are labels: take every other one [default: as the metadata says]
    #[arg(long, conflicts_with = "image")]
    pub(crate) labels: bool,
    /// The voxels are grey values: take the mean of those that become one
    #[arg(long)]
    pub(crate) image: bool,
    /// Threads that compute [default: one per core]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// Memory for the whole process
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    pub(crate) memory: Bytes,
    /// Make levels anew that are there
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Say nothing
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Array or group
    pub(crate) url: String,
    /// The TIFF file to write
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) pick: Picked,
    /// Only a part: 0:100,:,:
    #[arg(long, value_name = "SLICES", allow_hyphen_values = true)]
    pub(crate) region: Option<String>,
    /// How strips are packed
    #[arg(long, value_enum, default_value_t = Compress::None)]
    pub(crate) compress: Compress,
    /// Memory for voxels in flight
    #[arg(long, default_value = "512MiB", value_name = "SIZE")]
    pub(crate) memory: Bytes,
    /// Replace the file that is there
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Say nothing
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// What to compute: a job file, or an input with flags. A flag overrides the key of the same name.
#[derive(Clone, Debug, Args)]
pub(crate) struct JobArgs {
    /// Job file (.toml or .json), or the input array: a path, s3://BUCKET/PATH, http:// or https://
    #[arg(value_name = "JOB|INPUT")]
    pub(crate) job: String,
    /// Folder for the answers, which may be s3://BUCKET/PATH [default: the job's, else ./NAME-voxmill]
    #[arg(short, long)]
    pub(crate) output: Option<String>,
    /// Steps on one line: 'gaussian sigma=2 | threshold above=0.5 | label'; empty: measure only
    #[arg(long)]
    pub(crate) steps: Option<String>,
    #[command(flatten)]
    pub(crate) pick: Picked,
    /// Crop the input first: 0:100,:,:
    #[arg(long, value_name = "SLICES")]
    pub(crate) region: Option<String>,
    /// Outside this mask (bool or integers, of the input's shape) is background, left out of all statistics
    #[arg(long, value_name = "URL")]
    pub(crate) mask: Option<String>,
    /// What object statistics read: another array, or the name of a saved image [default: the input]
    #[arg(long, value_name = "URL|NAME")]
    pub(crate) intensity: Option<String>,
    /// What histogram.json describes: input, or the name of a saved image [default: input]
    #[arg(long, value_name = "NAME")]
    pub(crate) histogram: Option<String>,
    /// exact: read the measured image again where its percentiles can't be told exactly from one pass
    #[arg(long, value_name = "exact")]
    pub(crate) percentiles: Option<String>,
    #[command(flatten)]
    pub(crate) write: Written,
}

/// Where tasks are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExecutorName {
    /// Threads of this process
    Local,
    /// A function on AWS Lambda, which infra/README.md says how to deploy
    Lambda,
}

/// How to compute: nothing here changes an answer.
#[derive(Clone, Debug, Args)]
pub(crate) struct How {
    /// Where tasks run
    #[arg(long, value_enum, default_value_t = ExecutorName::Local)]
    pub(crate) executor: ExecutorName,
    /// The function: its name or ARN, perhaps with a version or an alias (NAME:7) [default: $VOXMILL_FUNCTION]
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<String>,
    /// Threads that compute [default: one per core]; with lambda, instances at once [default: what AWS allows]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// Memory for the whole process [default: 1GiB]; with lambda, of an instance [default: as it is deployed]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Bytes>,
    #[command(flatten)]
    pub(crate) price: PriceArgs,
    /// Voxels of a block: N or z,y,x, rounded up to whole output objects [default: planned]
    #[arg(long, value_name = "N|Z,Y,X")]
    pub(crate) block: Option<String>,
    /// Units of a segment, which is what one task gets [default: planned]
    #[arg(long, value_name = "N")]
    pub(crate) segment: Option<u64>,
    /// Replace the answers of another job, going on from what both have in common; of the same job, start over
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Keep receipts and scratch after success: what changes later, of the input or the job, then costs least
    #[arg(long)]
    pub(crate) keep: bool,
    /// Copy the labels to INPUT/labels/NAME, too, and list them there: NAME is what the label step saves, else the
    /// output's
    #[arg(long)]
    pub(crate) into_input: bool,
    /// Go on with a stage until more than N of its tasks have failed for good; the run then stops at the stage's end
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) max_failures: usize,
    /// Say nothing but errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Children of a group in the label merge, along each axis
    #[arg(long, value_name = "N", default_value_t = 4, hide_short_help = true)]
    pub(crate) merge_fanout: usize,
    /// Memory of one join in the label merge before it goes through the disk [default: a share of --memory]
    #[arg(long, value_name = "SIZE", hide_short_help = true)]
    pub(crate) merge_memory: Option<Bytes>,
    /// Object rows in a range of the label merge
    #[arg(long, value_name = "N", default_value_t = 65_536, hide_short_help = true)]
    pub(crate) range_rows: u64,
}

/// What a run may cost, and by which prices.
#[derive(Clone, Debug, Args)]
pub(crate) struct PriceArgs {
    /// Send no task that could bring the run beyond so many USD; the same command with more goes on
    #[arg(long, value_name = "USD")]
    pub(crate) max_usd: Option<f64>,
    /// Region whose prices count [default: AWS_REGION where the table has it, else us-east-1]
    #[arg(long, value_name = "REGION")]
    pub(crate) price_region: Option<String>,
    /// Another price for one unit, in USD: gb-second, invocation, s3-put, s3-get or logs-gb
    #[arg(long = "price", value_name = "KEY=USD")]
    pub(crate) prices: Vec<String>,
    /// What the function runs on, which decides its price
    #[arg(long, value_enum, default_value_t = Arch::X86, hide_short_help = true)]
    pub(crate) price_arch: Arch,
}

/// A task's name; what is wrong with it as one sentence, which is all that is told of a flag.
fn task_name(text: &str) -> Result<TaskName, String> {
    text.parse().map_err(|e: Error| [Some(e.message), e.hint].into_iter().flatten().collect::<Vec<_>>().join(": "))
}
