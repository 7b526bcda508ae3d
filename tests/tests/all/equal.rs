//! Chunked equals whole: random jobs on random images, cut up at random, leave the bytes that one block leaves.

use proptest::prelude::*;
use proptest::sample::select;
use voxel::{Dtype, Extent, Region};

use crate::support::image::{Look, Recipe, sheet, volume};
use crate::support::lab::{Cut, Lab};
use crate::support::twin;

/// A job, what it runs on, and how both are cut up.
#[derive(Clone, Debug)]
struct Case {
    recipe: Recipe,
    stored: ([usize; 3], Option<[usize; 3]>),
    steps: String,
    chunks: [usize; 3],
    /// Chunks in a shard, along each axis.
    shards: Option<[usize; 3]>,
    cut: Cut,
}

impl Case {
    /// Runs the job whole and cut up, and says what is not the same.
    fn difference(&self) -> Option<String> {
        let lab = Lab::with_chunks(&self.recipe.image(), self.stored.0, self.stored.1);
        let mut job = lab.job(&self.steps, self.chunks);
        if let Some(counts) = self.shards {
            job = lab.sharded(job, counts);
        }
        match (lab.outcome(&job, &self.cut), lab.outcome(&job, &self.cut.undone())) {
            (Ok(cut_up), Ok(whole)) => cut_up.difference(&whole),
            (Err(cut_up), Err(whole)) if cut_up == whole => None,
            (cut_up, whole) => Some(format!("cut up: {:?}, whole: {:?}", cut_up.err(), whole.err())),
        }
    }
}

/// 2-D and 3-D, with many axes of a few voxels or one.
fn extents() -> impl Strategy<Value = Extent> {
    let side = prop_oneof![1 => Just(1usize), 2 => 2..9usize, 4 => 9..41usize];
    prop_oneof![
        3 => [side.clone(), side.clone(), side.clone()].prop_map(volume),
        1 => [side.clone(), side].prop_map(sheet),
    ]
}

fn recipes(dtypes: &'static [Dtype]) -> impl Strategy<Value = Recipe> {
    (extents(), select(dtypes), select(&Look::ALL[..]), any::<bool>(), any::<u64>())
        .prop_map(|(extent, dtype, look, gaps, seed)| Recipe { extent, dtype, look, gaps, seed })
}

const DTYPES: &[Dtype] = &[Dtype::U8, Dtype::U16, Dtype::I16, Dtype::I32, Dtype::F32];
const INTEGERS: &[Dtype] = &[Dtype::U8, Dtype::U16, Dtype::I16, Dtype::I32];

/// Filters, then a threshold, then morphology; each may be left out where types allow.
fn mask_steps() -> impl Strategy<Value = Vec<String>> {
    let filter = select(vec![
        "gaussian sigma=1.2 truncate=2",
        "gaussian sigma=0.8 mode=mirror",
        "gaussian sigma=1 mode=constant value=3 truncate=1.5",
        "median size=3",
        "median size=3 mode=nearest",
        "mean size=3",
        "mean size=1,5,3 mode=mirror",
        "minimum size=3 mode=constant value=1",
        "maximum size=5,1,3",
        "clip low=-5 high=100.5",
        "rescale multiply=3 divide=7 add=-1 invert",
        "cast dtype=int16",
    ]);
    let threshold = (
        select(vec!["above=20", "below=100", "between=-50,120", "method=otsu", "percentile=37.5", "percentile=90"]),
        select(vec!["", " invert"]),
    )
        .prop_map(|(rule, invert)| format!("threshold {rule}{invert}"));
    let morphology = (
        select(vec!["erode", "dilate", "open", "close"]),
        select(vec!["ball=1", "ball=1.5", "ball=2", "ball=1,2,1.5", "box=1", "box=0,2,1", "cross=2"]),
        select(vec!["ignore", "zero"]),
    )
        .prop_map(|(op, shape, outside)| format!("{op} {shape} outside={outside}"));
    let filters = prop::collection::vec(filter.prop_map(str::to_owned), 0..=2);
    let morphologies = prop::collection::vec(morphology, 0..=2);
    (filters, threshold, morphologies).prop_map(|(mut steps, threshold, morphologies)| {
        steps.push(threshold);
        steps.extend(morphologies);
        steps
    })
}

fn label_step() -> impl Strategy<Value = String> {
    (select(vec![6, 18, 26]), select(vec![1, 2, 9]), select(vec!["", " clear_border"])).prop_map(
        |(connectivity, voxels, clear)| format!("label connectivity={connectivity} min_voxels={voxels}{clear}"),
    )
}

/// Jobs that save what they pass, fill holes, count contacts and go on after labels.
fn going_on() -> impl Strategy<Value = Vec<String>> {
    let holes = select(vec!["", "fill_holes", "fill_holes connectivity=26 save=filled"]);
    let first = (
        label_step(),
        select(vec!["", " save=first", " contacts=6 save=first", " max_voxels=40 contacts=26 save=first"]),
    )
        .prop_map(|(label, more)| format!("{label}{more}"))
        .prop_filter("some objects may be left", |label| {
            !label.contains("min_voxels=9 ") || !label.contains("max_voxels")
        });
    let then = select(vec![
        "",
        "objects contacts=18",
        "threshold between=2,9 save=some | label connectivity=26 contacts=26",
        "cast dtype=float32 | gaussian sigma=1 save=blurred",
        "median size=3 | objects save=measured",
        "dilate ball=1 save=wide | label save=second",
        "threshold percentile=60 | fill_holes | label save=second | threshold method=otsu | fill_holes connectivity=18",
        "fill_holes | erode box=1 | label clear_border | label contacts=6",
    ]);
    (mask_steps(), holes, first, then).prop_map(|(mut steps, holes, first, then)| {
        let saved = steps.len() / 2;
        steps[saved].push_str(" save=early");
        steps.extend([holes.to_owned(), first, then.to_owned()].into_iter().filter(|step| !step.is_empty()));
        steps
    })
}

fn cuts() -> impl Strategy<Value = Cut> {
    let merge_bytes = prop_oneof![Just(None), (1..4000u64).prop_map(Some), (4000..200_000u64).prop_map(Some)];
    let group_rows = prop_oneof![Just(1u64 << 20), 1..50u64];
    ([1..9usize, 1..9, 1..9], 2..4usize, 1..50u64, merge_bytes, 1..4usize, 1..6u64, group_rows).prop_map(
        |(block, fanout, range_rows, merge_bytes, threads, segment, group_rows)| Cut {
            block,
            fanout,
            range_rows,
            merge_bytes,
            threads,
            segment: Some(segment),
            group_rows,
        },
    )
}

/// Makes `cell` larger along its shortest side until no more than `cells_max` cover the image: each is a file or more.
fn enlarged(mut cell: [usize; 3], extent: Extent, cells_max: usize) -> [usize; 3] {
    let cells = |cell: [usize; 3]| (0..3).map(|a| extent.shape[a].div_ceil(cell[a])).product::<usize>();
    while cells(cell) > cells_max {
        let growing = (0..3).filter(|a| cell[*a] < extent.shape[*a]).min_by_key(|a| cell[*a]);
        if let Some(axis) = growing {
            cell[axis] *= 2;
        }
    }
    cell
}

fn cases(
    recipes: impl Strategy<Value = Recipe>,
    steps: impl Strategy<Value = Vec<String>>,
) -> impl Strategy<Value = Case> {
    let cell = || [1..12usize, 1..12, 1..12];
    let counts = || prop::option::of([1..4usize, 1..4, 1..4]);
    (recipes, steps, (cell(), counts()), (cell(), counts()), cuts()).prop_map(
        |(recipe, steps, (stored, in_shard), (chunks, shards), cut)| {
            let extent = recipe.extent;
            let (stored, chunks) = (enlarged(stored, extent, 400), enlarged(chunks, extent, 400));
            let shard = in_shard.map(|counts| std::array::from_fn(|a| stored[a] * counts[a]));
            let cut = Cut { block: enlarged(cut.block, extent, 300), ..cut };
            Case { recipe, stored: (stored, shard), steps: steps.join(" | "), chunks, shards, cut }
        },
    )
}

fn few(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_iters: 100, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(few(80))]

    #[test]
    fn labels_and_tables(
        case in cases(recipes(DTYPES), (mask_steps(), label_step()).prop_map(|(mut steps, label)| {
            steps.push(label);
            steps
        }))
    ) {
        prop_assert_eq!(case.difference(), None);
    }
}

proptest! {
    #![proptest_config(few(24))]

    #[test]
    fn jobs_that_go_on_after_labels(case in cases(recipes(DTYPES), going_on())) {
        prop_assert_eq!(case.difference(), None);
    }
}

proptest! {
    #![proptest_config(few(60))]

    #[test]
    fn images(
        case in cases(recipes(DTYPES), (mask_steps(), 1..6usize).prop_map(|(mut steps, length)| {
            steps.truncate(length);
            steps
        }))
    ) {
        prop_assert_eq!(case.difference(), None);
    }

    #[test]
    fn histograms(case in cases(recipes(DTYPES), Just(Vec::new()))) {
        prop_assert_eq!(case.difference(), None);
    }

    #[test]
    fn tables_of_given_objects(
        case in cases(recipes(INTEGERS), select(vec!["objects", "median size=3 | objects"]).prop_map(|s| vec![s.to_owned()]))
    ) {
        prop_assert_eq!(case.difference(), None);
    }

    /// The labels are those of flood fill, the table that of a loop over the voxels; whatever the cut, and with every
    /// way to drop objects.
    #[test]
    fn labels_and_tables_of_the_twin(
        recipe in recipes(DTYPES),
        connectivity in select(vec![6u8, 18, 26]),
        min_voxels in select(vec![1u64, 2, 30]),
        clear_border in any::<bool>(),
        chunks in [1..9usize, 1..9, 1..9],
        cut in cuts(),
    ) {
        let recipe = Recipe { gaps: false, ..recipe };
        let (image, extent) = (recipe.image(), recipe.extent);
        let lab = Lab::with(&image);
        let clear = if clear_border { " clear_border" } else { "" };
        let steps = format!("threshold above=40 | label connectivity={connectivity} min_voxels={min_voxels}{clear}");
        let job = lab.job(&steps, enlarged(chunks, extent, 300));
        let answers = lab.run(&job, &Cut { block: enlarged(cut.block, extent, 300), ..cut });

        let values = image.values();
        let mask: Vec<bool> = values.iter().map(|v| *v > 40.0).collect();
        let mut labels = twin::flood_fill(extent, &mask, connectivity);
        twin::keep(extent, &mut labels, min_voxels, clear_border);
        prop_assert!(answers.labels() == labels);
        prop_assert_eq!(answers.objects(), twin::measured(extent, &labels, &values));
    }

    /// `region` is numpy's `input[region]`: the answers are those of the crop as an input of its own.
    #[test]
    fn a_region_is_the_crop(
        recipe in recipes(DTYPES),
        corners in prop::array::uniform3((0.0..1.0f64, 0.0..1.0f64)),
        steps in (mask_steps(), label_step()),
        chunks in [1..9usize, 1..9, 1..9],
        cut in cuts(),
    ) {
        let shape = recipe.extent.shape;
        let at = |a: usize, part: f64| (part * shape[a] as f64) as usize;
        let start: [usize; 3] = std::array::from_fn(|a| at(a, corners[a].0.min(corners[a].1)));
        let end = std::array::from_fn(|a| at(a, corners[a].0.max(corners[a].1)) + 1);
        let region = Region { start, end };
        let image = recipe.image();
        let crop = image.cropped(region);

        let steps = [steps.0, vec![steps.1]].concat().join(" | ");
        let chunks = enlarged(chunks, crop.extent, 300);
        let cut = Cut { block: enlarged(cut.block, crop.extent, 300), ..cut };
        let (whole_lab, crop_lab) = (Lab::with(&image), Lab::with(&crop));
        let cropping = whole_lab.cropping(whole_lab.job(&steps, chunks), region);
        match (whole_lab.outcome(&cropping, &cut), crop_lab.outcome(&crop_lab.job(&steps, chunks), &cut.undone())) {
            (Ok(cropping), Ok(crop)) => {
                prop_assert_eq!(cropping.place(), start.map(|n| n as f64));
                prop_assert_eq!(cropping.anywhere().difference(&crop.anywhere()), None);
            }
            (cropping, crop) => prop_assert_eq!(cropping.err(), crop.err()),
        }
    }
}
