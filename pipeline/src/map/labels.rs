//! What a block leaves for the label merge, and what it does with the labels that come back.
//!
//! Labels of a block are numbered closed ones first, then open ones, each by first voxel: the same order in which a
//! group numbers its objects, so that blocks and groups look alike to whoever reads them.

use tokio::sync::SemaphorePermit;
use voxel::contacts::contacts;
use voxel::exact_sum::Kind;
use voxel::label::{Connectivity, label};
use voxel::runs::{Runs, of_values};
use voxel::seam::Plane;
use voxel::table::{ObjectRow, Objects, measure};
use voxel::threshold::{Cut, Threshold, threshold};
use voxel::{AnyVolume, Dtype, Region};

use super::{Done, Voxels, write};
use crate::grid::{coordinates, face_bit};
use crate::op::Op;
use crate::plan::memory::{BLOCK_CONTACTS, BLOCK_ROWS};
use crate::plan::{Leaf, Rows, TableId};
use crate::reduce::down::from_parent;
use crate::reduce::rank::Labels;
use crate::reduce::records::Alias;
use crate::reduce::up::PAGE_RECORDS;
use crate::reduce::{Contribution, Contributor, Counts};
use crate::rows::{PageWriter, Pages, write_closed_keys};
use crate::scratch::{Reader, Tag, Writer};
use crate::task::{Gate, Worker, wait_for};
use crate::{Error, Result, layout};

/// Fast, and runs are mostly small numbers already.
const RUNS_ZSTD_LEVEL: i32 = 1;

/// What a block leaves for a merge.
pub(super) struct Left<'a> {
    pub(super) worker: &'a Worker,
    /// Which merge.
    pub(super) leaf: &'a Leaf,
    pub(super) unit: u64,
    /// The image it is made from, which reaches one voxel around the block.
    pub(super) image: &'a AnyVolume,
    pub(super) intensity: Option<&'a AnyVolume>,
}

impl Left<'_> {
    /// Writes it; gives what there is to rank. `permit` is the one under which the image was made; it is given back when there
    /// is nothing left to compute, and what was made of the image with it, but for the file's own bytes.
    pub(super) async fn write(&self, permit: &mut Option<SemaphorePermit<'_>>) -> Result<Vec<Contribution>> {
        match *self.leaf {
            Leaf::Labels { step } => match self.worker.plan.ops.get(step) {
                Some(Op::Label(label)) => Ok(vec![self.labels(step, label.connectivity, self.image, permit).await?]),
                Some(Op::FillHoles { connectivity }) => {
                    let background = tokio::task::block_in_place(|| {
                        let zero = Threshold { cut: Cut::Between(0.0, 0.0), invert: false };
                        threshold(self.image.clone(), self.image.region(), &zero)
                    });
                    Ok(vec![self.labels(step, *connectivity, &background, permit).await?])
                }
                _ => Err(Error::internal("labels are left for a step that merges none")),
            },
            Leaf::Rows { step } => Ok(vec![self.rows(step, permit).await?]),
            Leaf::Contacts { step } => self.contacts(step).await,
            Leaf::Count(_) | Leaf::Image(_) => Ok(Vec::new()),
        }
    }

    /// The intensities of a step's objects, where its rows carry some.
    fn intensity_of(&self, step: usize) -> Option<&AnyVolume> {
        self.intensity.filter(|_| self.worker.plan.intensity_dtype(step).is_some())
    }

    /// Labels the block and writes its file.
    async fn labels(
        &self,
        step: usize,
        connectivity: Connectivity,
        mask: &AnyVolume,
        permit: &mut Option<SemaphorePermit<'_>>,
    ) -> Result<Contribution> {
        let Self { worker, unit, .. } = *self;
        let (plan, intensity) = (&worker.plan, self.intensity_of(step));
        let (tree, region) = (plan.tree(), plan.grid.region(unit));
        let open_faces = tree.open_faces(0, coordinates(unit, tree.blocks));
        let (runs, faces, closed) = tokio::task::block_in_place(|| {
            let mut runs = label(mask, region, connectivity);
            let faces = touched_faces(&runs, open_faces);
            let (faces, closed) = closed_first(&mut runs, faces);
            (runs, faces, closed)
        });

        let table = TableId { step, of: Rows::Objects };
        let mut out = Writer::create(&worker.store, &layout::scratch(&plan.left(table), unit)).await?;
        let bytes = tokio::task::block_in_place(|| {
            let mut bytes = Vec::new();
            runs.encode(&mut bytes);
            zstd::bulk::compress(&bytes, RUNS_ZSTD_LEVEL)
        });
        let bytes = bytes.map_err(|e| Error::internal(format!("runs can't be compressed: {e}")))?;
        out.section(Tag::Runs, 0, &bytes).await?;
        for face in (0..6).filter(|face| open_faces & (1 << face) != 0) {
            let mut bytes = Vec::new();
            plane(&runs, face, closed).encode(&mut bytes);
            out.section(Tag::Plane, face as u64, &bytes).await?;
        }
        let rows = |labels: std::ops::Range<u32>| {
            tokio::task::block_in_place(|| measure(&runs, labels, mask, Objects::Components, intensity, plan.extent))
        };
        let kind = plan.rows_kind(step);
        let (pages, open) = write_rows(kind, closed, runs.labels, &rows, &mut out).await?;
        write_closed_keys(&pages, &mut out).await?;
        for (page, faces) in faces.chunks(PAGE_RECORDS).enumerate() {
            let first = page * PAGE_RECORDS;
            let alias = |(i, faces): (usize, &u8)| {
                Alias { block: unit, label: (first + i) as u32, faces: *faces, open: (first + i) as u64 }.encode()
            };
            let bytes: Vec<u8> = faces.iter().enumerate().flat_map(alias).collect();
            out.section(Tag::Aliases, page as u64, &bytes).await?;
        }
        Counts { closed: pages.rows, open: open.rows, aliases: open.rows }.write(&mut out).await?;
        drop((runs, faces));
        permit.take();
        out.finish().await?;
        Ok(Contribution::of(table, Contributor { level: 0, unit }, pages))
    }

    /// Measures the objects that the block's values name and writes their rows, all of them closed, by id.
    async fn rows(&self, step: usize, permit: &mut Option<SemaphorePermit<'_>>) -> Result<Contribution> {
        let Self { worker, unit, image, .. } = *self;
        let (plan, intensity) = (&worker.plan, self.intensity_of(step));
        let (runs, ids) = tokio::task::block_in_place(|| of_values(image, plan.grid.region(unit)));
        let rows = |labels: std::ops::Range<u32>| {
            tokio::task::block_in_place(|| measure(&runs, labels, image, Objects::Values(&ids), intensity, plan.extent))
        };
        let table = TableId { step, of: Rows::Objects };
        let mut out = Writer::create(&worker.store, &layout::scratch(&plan.left(table), unit)).await?;
        let (pages, _) = write_rows(plan.rows_kind(step), runs.labels, runs.labels, &rows, &mut out).await?;
        write_closed_keys(&pages, &mut out).await?;
        drop((runs, ids));
        permit.take();
        out.finish().await?;
        Ok(Contribution::of(table, Contributor { level: 0, unit }, pages))
    }

    /// Writes the contacts of the block's voxels, in as many files as it takes.
    async fn contacts(&self, step: usize) -> Result<Vec<Contribution>> {
        let Self { worker, unit, image, .. } = *self;
        let plan = &worker.plan;
        let table = TableId { step, of: Rows::Contacts };
        let Some(connectivity) = plan.ops.get(step).and_then(Op::contacts) else {
            return Err(Error::internal("contacts are left for a step that asks for none"));
        };
        let mut contributions = Vec::new();
        tokio::task::block_in_place(|| {
            contacts(image, plan.grid.region(unit), plan.extent, connectivity, BLOCK_CONTACTS, |found| {
                let from = Contributor { level: contributions.len() as u32, unit };
                contributions.push(wait_for(async {
                    let mut out = Writer::create(&worker.store, &plan.rows_of(table, from)).await?;
                    let mut pages = PageWriter::new(Tag::Closed, ());
                    for contact in &found {
                        pages.push(contact, &mut out).await?;
                    }
                    let pages = pages.finish(&mut out).await?;
                    write_closed_keys(&pages, &mut out).await?;
                    out.finish().await?;
                    Ok::<_, Error>(Contribution::of(table, from, pages))
                })?);
                Ok::<_, Error>(())
            })
        })?;
        Ok(contributions)
    }
}

/// Writes the rows of labels 1 to `labels`, of which the first `closed` are closed; measures [`BLOCK_ROWS`] at a time,
/// closed and open ones in one go where they are few. Gives the pages of both.
async fn write_rows(
    kind: Option<Kind>,
    closed: u32,
    labels: u32,
    rows: &impl Fn(std::ops::Range<u32>) -> Vec<ObjectRow>,
    out: &mut Writer,
) -> Result<(Pages, Pages)> {
    let (mut pages, mut closed_pages) = (PageWriter::new(Tag::Closed, kind), None);
    for first in (1..labels + 1).step_by(BLOCK_ROWS) {
        let end = (labels + 1).min(first + BLOCK_ROWS as u32);
        for (label, row) in (first..end).zip(rows(first..end)) {
            if label == closed + 1 {
                let done = std::mem::replace(&mut pages, PageWriter::new(Tag::Open, kind));
                closed_pages = Some(done.finish(out).await?);
            }
            pages.push(&row, out).await?;
        }
    }
    let last = pages.finish(out).await?;
    Ok(match closed_pages {
        Some(closed) => (closed, last),
        None => (last, PageWriter::<ObjectRow>::new(Tag::Open, kind).finish(out).await?),
    })
}

/// Which of the faces in `open_faces` each label reaches; entry 0 is unused.
fn touched_faces(runs: &Runs, open_faces: u8) -> Vec<u8> {
    let region = runs.region;
    let width = region.shape()[2] as u32;
    let mut faces = vec![0; runs.labels as usize + 1];
    for (z, y, row) in runs.by_row() {
        let mut here = 0;
        for (axis, at) in [(0, z), (1, y)] {
            here |= if at == region.start[axis] { face_bit(axis, false) } else { 0 };
            here |= if at + 1 == region.end[axis] { face_bit(axis, true) } else { 0 };
        }
        for run in row {
            let low = if run.x == 0 { face_bit(2, false) } else { 0 };
            let high = if run.end() == width { face_bit(2, true) } else { 0 };
            faces[run.label as usize] |= (here | low | high) & open_faces;
        }
    }
    faces
}

/// Renumbers labels, closed ones first. Gives the faces of the open ones in their new order, and the number of closed.
fn closed_first(runs: &mut Runs, faces: Vec<u8>) -> (Vec<u8>, u32) {
    let closed = faces.iter().skip(1).filter(|f| **f == 0).count() as u32;
    let (mut next_closed, mut next_open) = (1, closed + 1);
    let mut new = vec![0; faces.len()];
    for label in 1..faces.len() {
        let next = if faces[label] == 0 { &mut next_closed } else { &mut next_open };
        new[label] = *next;
        *next += 1;
    }
    for run in &mut runs.runs {
        run.label = new[run.label as usize];
    }
    (faces.into_iter().skip(1).filter(|f| *f != 0).collect(), closed)
}

/// The open labels on one face of the block, numbered from 1; 0 where there is none.
fn plane(runs: &Runs, face: usize, closed: u32) -> Plane<u32> {
    let (axis, high) = (face / 2, face % 2 == 1);
    let (region, shape) = (runs.region, runs.region.shape());
    let (slow, fast) = [(1, 2), (0, 2), (0, 1)][axis];
    let at = if high { shape[axis] - 1 } else { 0 };
    let mut plane = Plane { shape: [shape[slow], shape[fast]], data: vec![0; shape[slow] * shape[fast]] };
    for (z, y, row) in runs.by_row() {
        let (z, y) = (z - region.start[0], y - region.start[1]);
        match axis {
            2 => {
                for run in row {
                    if run.x as usize <= at && at < run.end() as usize {
                        plane.data[z * shape[1] + y] = run.label - closed;
                    }
                }
            }
            _ if [z, y][axis] == at => {
                let start = if axis == 0 { y } else { z } * shape[2];
                for run in row {
                    plane.data[start + run.x as usize..start + run.end() as usize].fill(run.label - closed);
                }
            }
            _ => {}
        }
    }
    plane
}

/// Writes what a step made of a block's labels: their final numbers, or the foreground with its holes filled.
pub(crate) async fn relabel(worker: &Worker, gate: &Gate, stage: usize, step: usize, unit: u64) -> Result<Done> {
    let plan = &worker.plan;
    let state = worker.state_before(stage).await?;
    let stored = plan.stored(step + 1).ok_or_else(|| Error::internal("labels are to be written nowhere"))?;
    let region = plan.grid.region(unit);
    let fills = matches!(plan.ops.get(step), Some(Op::FillHoles { .. }));
    let mut done = Done::default();
    let mask = match plan.mask.is_some() && fills {
        true => Some(
            super::Reader { worker, gate, stage, unit, block: region, in_order: false, done: &mut done }
                .mask(region)
                .await?,
        ),
        false => None,
    };
    // Labels and runs of a block are as large as its voxels at worst, so they are read under the permit, too.
    let permit = gate.compute().await?;
    let table = TableId { step, of: Rows::Objects };
    let file = Reader::open(&worker.store, &layout::scratch(&plan.left(table), unit)).await?;
    let counts = Counts::read(&file, plan.rows_kind(step)).await?;
    if counts.closed + counts.open > region.voxels() as u64 {
        return Err(file.damaged("it has more labels than voxels"));
    }
    let this = Contributor { level: 0, unit };
    let ranked = Labels::of(&worker.store, plan, &state, table)?;
    let mut labels = ranked.of_closed(this, &file, 0..counts.closed).await?;
    if counts.open > 0 {
        labels.extend(from_parent(&worker.store, plan.tree(), plan.down_stage(step, 1), this, 0..counts.open).await?);
    }
    let bytes = file.require(Tag::Runs, 0).await?;
    let runs = tokio::task::block_in_place(|| runs_of(&bytes, region));
    let runs = runs.filter(|runs| runs.labels as usize == labels.len());
    let runs = runs.ok_or_else(|| file.damaged("its runs can't be decoded"))?;
    drop(bytes);
    let dtype = state.dtype(plan, step + 1);
    // A chunk at a time, which the caches may hold, where a block of labels is many times as large as its runs.
    let painted = move |part| {
        let mut image = match fills {
            true => filled(&runs, &labels, part),
            false => paint(&runs, &labels, dtype, part),
        };
        if let Some(mask) = &mask {
            voxel::mask::within(&mut image, mask);
        }
        image
    };
    done.written = write(worker, gate, permit, &state, stored, Some(Voxels::Made(Box::new(painted))), region).await?;
    Ok(done)
}

/// The runs of a block from their section.
pub(crate) fn runs_of(bytes: &[u8], region: Region) -> Option<Runs> {
    // A run is a few bytes: three numbers of at most five each, and each row's count.
    let bytes_max = region.voxels().div_ceil(2) * 15 + region.voxels() + 64;
    let bytes = zstd::bulk::decompress(bytes, bytes_max).ok()?;
    Runs::decode(region, &bytes)
}

fn paint(runs: &Runs, labels: &[u64], dtype: Dtype, part: Region) -> AnyVolume {
    match dtype {
        Dtype::U64 => runs.paint_part(part, |label| labels[label as usize - 1]).into(),
        _ => runs.paint_part(part, |label| labels[label as usize - 1] as u32).into(),
    }
}

/// The foreground and its holes, from the runs of the background: those that were kept are holes.
fn filled(runs: &Runs, labels: &[u64], part: Region) -> AnyVolume {
    let mut image = runs.paint_part(part, |label| labels[label as usize - 1] == 0);
    for value in &mut image.data {
        *value = !*value;
    }
    image.into()
}
