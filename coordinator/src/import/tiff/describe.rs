//! What the first page says of all: ImageJ's list of properties, OME's XML, and tifffile's JSON, in its description.
//!
//! They say which pages are z planes, channels and time points, and how large a voxel is. Resolutions of files of no such
//! program are those of a printer as often as not, and are not believed.

use super::Directories;
use crate::import::Reading;
use crate::import::place::Place;
use ::tiff::decoder::ifd::Value;
use ::tiff::tags::{Tag, Type, ValueBuffer};
use pipeline::array::unit_name;
use pipeline::{Error, Result};
use std::collections::HashMap;

/// What is said of the pages.
#[derive(Debug, Default)]
pub(super) struct Description {
    kind: Kind,
    /// Planes along z, channels and time points; none where nothing is said.
    sizes: Option<Sizes>,
    /// Pages of planes, by z, channel and time, where they don't follow from the order of the axes.
    moved: HashMap<[usize; 3], usize>,
    channels: Vec<String>,
    /// All planes stand in one page, without the length of one: their voxels, or how many they are.
    together: Option<Together>,
    pub(super) place: Place,
    pub(super) notes: Vec<String>,
}

#[derive(Debug, Default, PartialEq)]
enum Kind {
    #[default]
    Silent,
    ImageJ,
    Ome,
    Shaped,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Sizes {
    /// Along z, channels, time.
    length: [usize; 3],
    /// Of those three, from the one that changes from page to page to the one that changes last.
    fastest: [usize; 3],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Together {
    Images(usize),
    Voxels(u64),
}

/// One element of OME's XML speaks of no more planes than these.
const PLANES_MAX: usize = 1 << 20;

const Z: usize = 0;
const C: usize = 1;
const T: usize = 2;

impl Description {
    /// What the current page, the first, says.
    pub(super) fn read(directories: &mut Directories) -> Result<Self> {
        let mut letters = ValueBuffer::empty(Type::ASCII);
        // A text too long for the memory is as good as none.
        let text = match directories.image_ifd().find_tag_buf(Tag::ImageDescription, &mut letters) {
            Ok(Some(_)) => words(letters.as_bytes()),
            _ => String::new(),
        };
        let resolution = |directories: &mut Directories, tag| match directories.find_tag(tag) {
            Ok(Some(Value::Rational(per, units))) if per > 0 && units > 0 => Some(f64::from(units) / f64::from(per)),
            _ => None,
        };
        let steps = [resolution(directories, Tag::XResolution), resolution(directories, Tag::YResolution)];
        let per = directories.find_tag_unsigned::<u16>(Tag::ResolutionUnit).ok().flatten().unwrap_or(2);
        let trimmed = text.trim_matches(['\0', ' ', '\n', '\r', '\u{feff}']);
        if trimmed.starts_with("ImageJ=") {
            return Ok(Self::imagej(trimmed, steps, per));
        }
        if trimmed.starts_with('<') && trimmed.contains("<OME") {
            return Self::ome(trimmed);
        }
        if trimmed.starts_with("{\"shape\":") {
            return Ok(Self::shaped(trimmed));
        }
        Ok(Self::default())
    }

    /// `ImageJ=1.53t`, then a property to a line. `steps` are lengths of a voxel along x and y.
    fn imagej(text: &str, steps: [Option<f64>; 2], per: u16) -> Self {
        let property =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::trim);
        let number = |key: &str| property(key).and_then(|n| n.parse::<usize>().ok()).filter(|n| *n > 0);
        let images = number("images").unwrap_or(1);
        let (channels, frames) = (number("channels").unwrap_or(1), number("frames").unwrap_or(1));
        let others = channels.saturating_mul(frames);
        let slices = number("slices").unwrap_or(if images % others == 0 { images / others } else { 1 });
        let mut place = Place::default();
        let mut notes = Vec::new();
        let unit = property("unit").map(|unit| unit_name(&unescaped(unit))).filter(|unit| !unit.is_empty());
        let unit = unit.or_else(|| (per == 3).then(|| "centimeter".to_owned()));
        let [x, y] = steps;
        let z =
            property("spacing").and_then(|n| n.parse::<f64>().ok()).map(f64::abs).filter(|n| n.is_finite() && *n > 0.0);
        match unit.as_deref() {
            Some("pixel" | "pixels") => {}
            // Without a unit the resolution is in dots per inch, of a screen or of nothing.
            None if per == 2 => place.spacing = z.map(|z| [z, 1.0, 1.0]),
            _ if x.is_some() || z.is_some() => {
                let x = x.or(y).unwrap_or(1.0);
                place.spacing = Some([z.unwrap_or(1.0), y.unwrap_or(x), x]);
                place.unit = unit.clone();
            }
            _ => {}
        }
        let other =
            property("zunit").map(|zunit| unit_name(&unescaped(zunit))).filter(|zunit| Some(zunit) != unit.as_ref());
        if let (Some(zunit), Some(unit)) = (other, &unit) {
            notes.push(format!(
                "the spacing along z is in {zunit} and those along y and x in {unit}; they are left out"
            ));
            place = Place::default();
        }
        Self {
            kind: Kind::ImageJ,
            sizes: Some(Sizes { length: [slices, channels, frames], fastest: [C, Z, T] }),
            together: (images > 1).then_some(Together::Images(images)),
            place,
            notes,
            ..Self::default()
        }
    }

    /// The first image of an OME-XML document, <https://www.openmicroscopy.org/Schemas/OME/2016-06>.
    fn ome(text: &str) -> Result<Self> {
        let document = roxmltree::Document::parse(text)
            .map_err(|error| Error::data(format!("its OME-XML can't be read: {error}")))?;
        let images: Vec<roxmltree::Node> =
            document.descendants().filter(|node| node.tag_name().name() == "Image").collect();
        let Some(pixels) = document.descendants().find(|node| node.tag_name().name() == "Pixels") else {
            return Ok(Self::default());
        };
        let number =
            |node: &roxmltree::Node, name: &str| node.attribute(name).and_then(|n| n.trim().parse::<usize>().ok());
        let length = ["SizeZ", "SizeC", "SizeT"].map(|name| number(&pixels, name).filter(|n| *n > 0).unwrap_or(1));
        let order = pixels.attribute("DimensionOrder").unwrap_or("XYZCT");
        let mut fastest: Vec<usize> = order.chars().skip(2).filter_map(|axis| "ZCT".find(axis)).collect();
        fastest.extend((0..3).filter(|axis| !order.get(2..).unwrap_or_default().contains(["Z", "C", "T"][*axis])));
        let sizes = Sizes { length, fastest: <[usize; 3]>::try_from(fastest).unwrap_or([Z, C, T]) };
        let mut moved = HashMap::new();
        for data in pixels.children().filter(|node| node.tag_name().name() == "TiffData") {
            let Some(page) = number(&data, "IFD") else { continue };
            let first = ["FirstZ", "FirstC", "FirstT"].map(|name| number(&data, name).unwrap_or(0));
            let count = number(&data, "PlaneCount").unwrap_or(1).min(sizes.planes()).min(PLANES_MAX);
            let start = sizes.position(first);
            moved.extend((0..count).map(|i| (sizes.at(start.saturating_add(i)), page.saturating_add(i))));
        }
        let channels = pixels
            .children()
            .filter(|node| node.tag_name().name() == "Channel")
            .map(|node| node.attribute("Name").unwrap_or_default().to_owned())
            .collect();
        let mut notes = Vec::new();
        if images.len() > 1 {
            notes.push(format!("the file holds {} images; this is the first", images.len()));
        }
        let mut place = Place::default();
        let size = |axis: &str| {
            let size = pixels.attribute(format!("PhysicalSize{axis}").as_str())?.trim().parse::<f64>().ok()?;
            let unit = pixels.attribute(format!("PhysicalSize{axis}Unit").as_str()).unwrap_or("\u{b5}m");
            (size.is_finite() && size > 0.0).then(|| (size, unit_name(unit)))
        };
        let found: Vec<Option<(f64, String)>> = ["Z", "Y", "X"].iter().map(|axis| size(axis)).collect();
        let units: Vec<&String> = found.iter().flatten().map(|(_, unit)| unit).collect();
        if let Some(unit) = units.first() {
            if units.iter().all(|other| other == unit) {
                place.spacing = Some(std::array::from_fn(|axis| found[axis].as_ref().map_or(1.0, |(size, _)| *size)));
                // OME's own words for sizes without a unit.
                place.unit = Some((*unit).clone()).filter(|unit| !matches!(unit.as_str(), "pixel" | "reference frame"));
            } else {
                notes.push("the sizes of a voxel are in several units; they are left out".to_owned());
            }
        }
        Ok(Self { kind: Kind::Ome, sizes: Some(sizes), moved, channels, together: None, place, notes })
    }

    /// `{"shape": [10, 2, 64, 64], "axes": "ZCYX", "truncated": true}`.
    fn shaped(text: &str) -> Self {
        let Ok(document) = serde_json::from_str::<serde_json::Value>(text) else { return Self::default() };
        let shape: Vec<u64> =
            document["shape"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64).collect();
        let voxels = shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n));
        let truncated = document["truncated"].as_bool().unwrap_or(false);
        let together = voxels.filter(|_| truncated).map(Together::Voxels);
        let sizes = document["axes"].as_str().filter(|axes| axes.chars().count() == shape.len()).and_then(|axes| {
            let mut length = [1; 3];
            let mut fastest = Vec::new();
            for (axis, n) in axes.chars().rev().zip(shape.iter().rev()) {
                match "ZCT".find(axis) {
                    Some(axis) => {
                        length[axis] = usize::try_from(*n).ok()?;
                        fastest.push(axis);
                    }
                    None if matches!(axis, 'Y' | 'X') || *n == 1 => {}
                    None => return None,
                }
            }
            fastest.extend((0..3).filter(|axis| !fastest.contains(axis)).collect::<Vec<_>>());
            Some(Sizes { length, fastest: <[usize; 3]>::try_from(fastest).ok()? })
        });
        Self { kind: Kind::Shaped, sizes, together, ..Self::default() }
    }

    /// How many images of `voxels` voxels a file's one page stands for, if more than itself.
    pub(super) fn one_page_stands_for(&self, voxels: u64) -> Option<usize> {
        let images = match self.together? {
            Together::Images(images) => images,
            Together::Voxels(all) => usize::try_from(all / voxels.max(1)).ok()?,
        };
        (images > 1).then_some(images)
    }

    /// The pages of the one channel and time point that is imported, along z; `None` for all as they come.
    ///
    /// # Errors
    /// Invalid when there are several and none was chosen, or the pages are not those that are spoken of.
    pub(super) fn wanted(
        &self,
        place: &str,
        pages: usize,
        reading: &Reading,
        alone: bool,
    ) -> Result<Option<Vec<usize>>> {
        // In a folder, what a file says may be meant for the set.
        let sizes = self.sizes.filter(|sizes| alone || sizes.planes() == pages);
        let Some(sizes) = sizes else {
            reading.pick(place, "channel", reading.channel, 1, &[])?;
            reading.pick(place, "time", reading.time, 1, &[])?;
            return Ok(None);
        };
        let [depth, channels, times] = sizes.length;
        let channel = reading.pick(place, "channel", reading.channel, channels, &self.channels)?;
        let time = reading.pick(place, "time", reading.time, times, &[])?;
        let planes = sizes.planes();
        if self.kind != Kind::Ome && planes != pages {
            // ImageJ's numbers are not always kept up by those who write in its name; they only matter for several
            // channels and time points.
            if (channels, times) == (1, 1) {
                return Ok(None);
            }
            return Err(Error::data(format!("{place} says that it holds {planes} planes, and has {pages} pages")));
        }
        let page = |z: usize| {
            let at = [z, channel, time];
            self.moved.get(&at).copied().unwrap_or_else(|| sizes.position(at))
        };
        // No more than there can be, whatever the text says.
        let wanted: Vec<usize> = (0..depth.min(pages)).map(page).collect();
        if depth > pages || wanted.iter().any(|page| *page >= pages) {
            return Err(Error::invalid(format!(
                "{place} says that it holds {planes} planes, and has {pages} pages; the others may be in other files"
            ))
            .hint("import the folder that has them all"));
        }
        Ok(Some(wanted))
    }
}

impl Sizes {
    fn planes(&self) -> usize {
        self.length.iter().fold(1, |product: usize, n| product.saturating_mul(*n))
    }

    /// The number of a plane, in the order of the axes.
    fn position(&self, at: [usize; 3]) -> usize {
        let (mut position, mut step) = (0usize, 1usize);
        for axis in self.fastest {
            position = position.saturating_add(at[axis].saturating_mul(step));
            step = step.saturating_mul(self.length[axis]);
        }
        position
    }

    /// The plane of that number.
    fn at(&self, mut position: usize) -> [usize; 3] {
        let mut at = [0; 3];
        for axis in self.fastest {
            at[axis] = position % self.length[axis];
            position /= self.length[axis];
        }
        at
    }
}

/// A text in UTF-8, or else in Latin-1, in which older programs wrote their micrometres.
fn words(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().map(|byte| char::from(*byte)).collect(), str::to_owned)
}

/// ImageJ writes letters beyond ASCII as `\u00B5`.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\u") {
        out.push_str(before);
        match after.get(..4).and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32) {
            Some(letter) => {
                out.push(letter);
                rest = &after[4..];
            }
            None => {
                out.push_str("\\u");
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn imagej_says_sizes_and_how_large_a_voxel_is() {
        let text =
            "ImageJ=1.53t\nimages=12\nchannels=2\nslices=3\nframes=2\nhyperstack=true\nunit=\\u00B5m\nspacing=2.5\n";
        let said = Description::imagej(text, [Some(0.25), Some(0.5)], 1);
        assert_eq!(said.place.spacing, Some([2.5, 0.5, 0.25]));
        assert_eq!(said.place.unit.as_deref(), Some("micrometer"));
        let reading = Reading { channel: Some(1), time: Some(1), ..Reading::default() };
        // Channels change fastest, then slices, then frames.
        assert_eq!(said.wanted("a.tif", 12, &reading, true), Ok(Some(vec![7, 9, 11])));
        let error = said.wanted("a.tif", 12, &Reading::default(), true).unwrap_err();
        assert_eq!(error.message, "a.tif holds 2 channels, but a volume has one");
        assert_eq!(error.hint.as_deref(), Some("choose one with --channel, from 0 to 1"));
        // A pixel is no unit, and dots per inch are those of a screen.
        assert_eq!(Description::imagej("ImageJ=1\nunit=pixel\n", [Some(1.0); 2], 1).place, Place::default());
        assert_eq!(Description::imagej("ImageJ=1\n", [Some(1.0 / 72.0); 2], 2).place, Place::default());
    }

    #[test]
    fn ome_says_where_each_plane_is() {
        let text = r#"<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">
            <Pixels DimensionOrder="XYZCT" SizeX="4" SizeY="4" SizeZ="2" SizeC="2" SizeT="1" Type="uint8"
                    PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeYUnit="&#181;m" PhysicalSizeZ="2">
              <Channel ID="0" Name="DAPI"/><Channel ID="1" Name="GFP"/>
              <TiffData IFD="3" FirstZ="0" FirstC="1" PlaneCount="1"/><TiffData IFD="2" FirstZ="1" FirstC="1"/>
            </Pixels></Image></OME>"#;
        let said = Description::ome(text).unwrap();
        assert_eq!(said.place.spacing, Some([2.0, 0.5, 0.5]));
        assert_eq!(said.place.unit.as_deref(), Some("micrometer"));
        let reading = |channel| Reading { channel: Some(channel), ..Reading::default() };
        assert_eq!(said.wanted("a.tif", 4, &reading(0), true), Ok(Some(vec![0, 1])));
        assert_eq!(said.wanted("a.tif", 4, &reading(1), true), Ok(Some(vec![3, 2])));
        let error = said.wanted("a.tif", 4, &Reading::default(), true).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("choose one with --channel: 0 (DAPI), 1 (GFP)"));
        let error = said.wanted("a.tif", 2, &reading(1), true).unwrap_err();
        assert!(error.message.starts_with("a.tif says that it holds 4 planes, and has 2 pages"), "{}", error.message);
        // In a folder the same text may speak of all files together.
        assert_eq!(said.wanted("a.tif", 1, &Reading::default(), false), Ok(None));
        assert!(Description::ome("<OME><Image").is_err());
        let absurd = r#"<OME><Image><Pixels SizeZ="18446744073709551615" SizeC="9" SizeT="9">
            <TiffData IFD="18446744073709551615" FirstZ="18446744073709551615" PlaneCount="18446744073709551615"/>
            </Pixels></Image></OME>"#;
        let reading = Reading { channel: Some(8), time: Some(8), ..Reading::default() };
        assert!(Description::ome(absurd).unwrap().wanted("a.tif", 4, &reading, true).is_err());
    }

    #[test]
    fn tifffile_says_axes_and_whether_pages_were_left_out() {
        let said = Description::shaped(r#"{"shape": [5, 2, 4, 6], "axes": "ZCYX", "truncated": true}"#);
        assert_eq!(said.one_page_stands_for(24), Some(10));
        let reading = Reading { channel: Some(1), ..Reading::default() };
        assert_eq!(said.wanted("a.tif", 10, &reading, true), Ok(Some(vec![1, 3, 5, 7, 9])));
        assert_eq!(
            Description::shaped(r#"{"shape": [5, 4, 6]}"#).wanted("a.tif", 5, &Reading::default(), true),
            Ok(None)
        );
    }
}
