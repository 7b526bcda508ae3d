//! Where the voxels of a file lie in the world: their size, and the affine that some formats carry.

use pipeline::array::Geometry;
use serde_json::{Map, Value, json};

/// What a file says of the size and place of its voxels.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Place {
    /// Spacing along z, y, x.
    pub(super) spacing: Option<[f64; 3]>,
    /// The unit's full name.
    pub(super) unit: Option<String>,
    /// Centre of the first voxel along z, y, x, in that unit; only where the axes run as those of the world.
    pub(super) translation: [f64; 3],
    /// What goes into the group's attributes as `voxmill`.
    pub(super) attributes: Map<String, Value>,
}

impl Place {
    /// The same for an image with axes z, y, x, or y, x when planar.
    pub(super) fn geometry(&self, planar: bool) -> Geometry {
        let units = [(); 3].map(|()| self.unit.clone());
        Geometry::spaced(planar, self.spacing.unwrap_or([1.0; 3]), self.translation, units)
    }
}

/// From voxel indices x, y, z to a position in the world: the columns of x, y and z, and the origin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Affine {
    pub(super) columns: [[f64; 3]; 3],
    pub(super) origin: [f64; 3],
}

impl Affine {
    /// Length of a step along x, y and z.
    pub(super) fn steps(&self) -> [f64; 3] {
        self.columns.map(|column| column.iter().map(|v| v * v).sum::<f64>().sqrt())
    }

    /// What a viewer that knows sizes and no directions would get wrong, in words; `None` when nothing.
    fn turned(&self) -> Option<String> {
        let steps = self.steps();
        let unit: [[f64; 3]; 3] = std::array::from_fn(|axis| {
            self.columns[axis].map(|v| if steps[axis] > 0.0 { v / steps[axis] } else { 0.0 })
        });
        // The world's axis each voxel axis follows most closely.
        let along = unit.map(|column| (0..3).max_by(|a, b| column[*a].abs().total_cmp(&column[*b].abs())).unwrap_or(0));
        let angle = (0..3).map(|axis| unit[axis][along[axis]].abs().min(1.0).acos().to_degrees()).fold(0.0, f64::max);
        let names = ["x", "y", "z"];
        let mut said = Vec::new();
        if along != [0, 1, 2] {
            let order: Vec<&str> = along.iter().map(|world| names[*world]).collect();
            said.push(format!("has its x, y, z run along the world's {}", order.join(", ")));
        }
        let flipped: Vec<&str> =
            (0..3).filter(|axis| unit[*axis][along[*axis]] < 0.0).map(|axis| names[axis]).collect();
        if !flipped.is_empty() {
            said.push(format!("flips {}", flipped.join(" and ")));
        }
        // Below that, rounding of a stored quaternion.
        if angle > 0.01 {
            said.push(format!("turns axes by up to {angle:.1} degrees"));
        }
        (!said.is_empty()).then(|| said.join(", "))
    }

    /// Keeps the affine in the attributes, and the origin as translation where the axes run as the world's. `space` says
    /// what the world's axes are. Returns a line for the user when they don't.
    pub(super) fn put_into(&self, place: &mut Place, space: &str) -> Option<String> {
        let row = |r: usize| json!([self.columns[0][r], self.columns[1][r], self.columns[2][r], self.origin[r]]);
        place.attributes.insert("affine".into(), json!([row(0), row(1), row(2), [0.0, 0.0, 0.0, 1.0]]));
        place.attributes.insert("space".into(), json!(space));
        let turned = self.turned();
        if turned.is_none() {
            place.translation = [self.origin[2], self.origin[1], self.origin[0]];
        }
        turned.map(|turned| {
            format!(
                "the file's affine {turned}; voxels stay in the file's order, and the affine is kept in the attributes"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affine(columns: [[f64; 3]; 3]) -> Affine {
        Affine { columns, origin: [1.0, 2.0, 3.0] }
    }

    #[test]
    fn what_is_turned_is_said_and_what_is_not_becomes_a_translation() {
        let mut place = Place::default();
        let straight = affine([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 2.0]]);
        assert_eq!(straight.put_into(&mut place, "scanner"), None);
        assert_eq!(straight.steps(), [0.5, 0.5, 2.0]);
        assert_eq!(place.translation, [3.0, 2.0, 1.0]);
        assert_eq!(place.attributes["affine"][2], json!([0.0, 0.0, 2.0, 3.0]));

        let cases = [
            (affine([[-0.5, 0.0, 0.0], [0.0, -0.5, 0.0], [0.0, 0.0, 2.0]]), "flips x and y"),
            (
                affine([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
                "has its x, y, z run along the world's y, z, x",
            ),
            (affine([[0.8, 0.6, 0.0], [-0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]), "turns axes by up to 36.9 degrees"),
        ];
        for (affine, words) in cases {
            let mut place = Place::default();
            let said = affine.put_into(&mut place, "scanner").unwrap_or_default();
            assert!(said.starts_with(&format!("the file's affine {words}; ")), "{said}");
            assert_eq!(place.translation, [0.0; 3]);
        }
    }
}
