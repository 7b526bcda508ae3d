//! Eigenvalues of symmetric 3x3 matrices, the same bits on every machine.

/// More than any matrix needs: convergence is quadratic, so off-diagonal values soon underflow to exactly 0. The bound is
/// there for NaN.
const SWEEPS_MAX: usize = 32;

/// The eigenvalues of a symmetric matrix, descending, by Jacobi's iteration (C. G. J. Jacobi, 1846; Golub and Van Loan,
/// "Matrix Computations", section 8.5).
///
/// Rotations follow in a fixed cyclic order until the matrix is diagonal, with nothing but + - * / and sqrt, which IEEE
/// 754 rounds exactly. A closed form would need cosines, which differ between machines, and loses digits besides.
pub(super) fn of_symmetric(mut a: [[f64; 3]; 3]) -> [f64; 3] {
    for _ in 0..SWEEPS_MAX {
        if [a[0][1], a[0][2], a[1][2]] == [0.0; 3] {
            break;
        }
        // The third index is the row that only turns.
        for (p, q, other) in [(0, 1, 2), (0, 2, 1), (1, 2, 0)] {
            rotate(&mut a, p, q, other);
        }
    }
    let mut values = [a[0][0], a[1][1], a[2][2]];
    values.sort_unstable_by(|x, y| y.total_cmp(x));
    values
}

/// Turns the plane of axes `p` and `q` so that `a[p][q]` becomes 0.
fn rotate(a: &mut [[f64; 3]; 3], p: usize, q: usize, other: usize) {
    let apq = a[p][q];
    if apq == 0.0 {
        return;
    }
    // The tangent of the smaller of the two angles that do it: theta is the cotangent of twice the angle. An infinite
    // theta gives 0: an off-diagonal value that small changes nothing.
    let theta = (a[q][q] - a[p][p]) / (2.0 * apq);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    a[p][p] -= tangent * apq;
    a[q][q] += tangent * apq;
    a[p][q] = 0.0;
    a[q][p] = 0.0;
    let (to_p, to_q) = (a[other][p], a[other][q]);
    a[other][p] = cosine * to_p - sine * to_q;
    a[other][q] = sine * to_p + cosine * to_q;
    a[p][other] = a[other][p];
    a[q][other] = a[other][q];
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The trigonometric solution of the characteristic equation (O. K. Smith, 1961).
    fn closed_form(a: [[f64; 3]; 3]) -> [f64; 3] {
        let mean = (a[0][0] + a[1][1] + a[2][2]) / 3.0;
        let mut squares = 0.0;
        for i in 0..3 {
            for j in 0..3 {
                squares += if i == j { (a[i][i] - mean).powi(2) } else { a[i][j].powi(2) };
            }
        }
        let p = (squares / 6.0).sqrt();
        if p == 0.0 {
            return [mean; 3];
        }
        let b = |i: usize, j: usize| (a[i][j] - if i == j { mean } else { 0.0 }) / p;
        let half_determinant = (b(0, 0) * (b(1, 1) * b(2, 2) - b(1, 2) * b(2, 1))
            - b(0, 1) * (b(1, 0) * b(2, 2) - b(1, 2) * b(2, 0))
            + b(0, 2) * (b(1, 0) * b(2, 1) - b(1, 1) * b(2, 0)))
            / 2.0;
        let angle = half_determinant.clamp(-1.0, 1.0).acos() / 3.0;
        let first = mean + 2.0 * p * angle.cos();
        let last = mean + 2.0 * p * (angle + 2.0 * std::f64::consts::FRAC_PI_3).cos();
        [first, 3.0 * mean - first - last, last]
    }

    proptest! {
        #[test]
        fn eigenvalues_solve_the_characteristic_equation(
            v in prop::array::uniform6(prop_oneof![-10.0f64..10.0, -1e-6f64..1e-6, Just(0.0), Just(1.0)]),
        ) {
            let a = [[v[0], v[1], v[2]], [v[1], v[3], v[4]], [v[2], v[4], v[5]]];
            let (found, slow) = (of_symmetric(a), closed_form(a));
            let scale = v.iter().fold(1e-300f64, |m, x| m.max(x.abs()));
            for i in 0..3 {
                // The closed form, not the iteration, is what loses half its digits where two values nearly meet.
                prop_assert!((found[i] - slow[i]).abs() <= 1e-7 * scale, "{found:?} {slow:?}");
            }
            // The symmetric functions of the roots have no such weakness.
            let trace = a[0][0] + a[1][1] + a[2][2];
            let minors = a[0][0] * a[1][1] - a[0][1] * a[0][1] + a[0][0] * a[2][2] - a[0][2] * a[0][2]
                + a[1][1] * a[2][2] - a[1][2] * a[1][2];
            let [e1, e2, e3] = found;
            prop_assert!((e1 + e2 + e3 - trace).abs() <= 1e-13 * scale);
            prop_assert!((e1 * e2 + e1 * e3 + e2 * e3 - minors).abs() <= 1e-13 * scale * scale);
        }
    }

    #[test]
    fn diagonal_and_degenerate_matrices() {
        assert_eq!(of_symmetric([[1.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 2.0]]), [3.0, 2.0, 1.0]);
        assert_eq!(of_symmetric([[0.0; 3]; 3]), [0.0; 3]);
        let ones = of_symmetric([[1.0; 3]; 3]);
        assert!((ones[0] - 3.0).abs() < 1e-15 && ones[1].abs() < 1e-15 && ones[2].abs() < 1e-15, "{ones:?}");
        let tiny = of_symmetric([[1.0, 5e-324, 0.0], [5e-324, 1e300, 0.0], [0.0, 0.0, 0.0]]);
        assert_eq!(tiny, [1e300, 1.0, 0.0]);
    }
}
