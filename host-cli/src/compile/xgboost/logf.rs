//! The natural logarithm in f32, as the C library computes it for XGBoost.
//!
//! `base_score` passes through `logf` on its way to the margin every sum starts from, so one bit there is a bit in
//! every prediction. `logf` is not correctly rounded and implementations differ (the `libm` crate for 0.6 % of all
//! inputs), so this is the algorithm of glibc and musl themselves: a table of 16 reciprocals and a cubic, in f64. It
//! gives glibc's bits for every positive f32; whether the f64 steps are fused makes no difference to them.
//!
//! Algorithm and constants: `logf` of ARM's Optimized Routines, (c) 2017-2018 Arm Limited, MIT licence.

use std::f64::consts::LN_2;

/// Coefficients of the cubic in r = z/c − 1.
const CUBIC: [f64; 3] = [-0.25089342214237154, 0.333456765744066, -0.4999997485802103];

/// 1/c and ln(c), for c near the middle of each sixteenth of [0.7, 1.4).
const TABLE: [(f64, f64); 16] = [
    (1.398907162146528, -0.33569133332882284),
    (1.3403141896637998, -0.2929040563774074),
    (1.286432210124115, -0.2518726580937369),
    (1.2367150214269895, -0.21245868807117255),
    (1.1906977166711752, -0.17453945183745634),
    (1.1479821020556429, -0.1380057072319758),
    (1.1082251448272158, -0.10275976698545139),
    (1.0711297413057381, -0.06871392447020525),
    (1.036437278977283, -0.0357891387398228),
    (1.0, 0.0),
    (0.9492859795739057, 0.05204517742929496),
    (0.8951049428609004, 0.11081431298787942),
    (0.8476821620351103, 0.1652495223695143),
    (0.8050314851692001, 0.21687389031699977),
    (0.7664671008843108, 0.2659635028121397),
    (0.731428603316328, 0.3127556664073557),
];

/// ln(x); −∞ for 0, NaN for negative values.
pub(super) fn logf(x: f32) -> f32 {
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x.is_nan() || x < 0.0 {
        return f32::NAN;
    }
    if x == f32::INFINITY {
        return x;
    }
    // x = 2^k · z with z in [0.7, 1.4); subnormals are scaled up first.
    let (bits, scaled) =
        if x < f32::MIN_POSITIVE { ((x * 8_388_608.0).to_bits(), 23) } else { (x.to_bits(), 0) };
    let offset = bits.wrapping_sub(0x3f33_0000);
    let k = (offset.cast_signed() >> 23) - scaled;
    let z = f64::from(f32::from_bits(bits.wrapping_sub(offset & 0xff80_0000)));
    let (inverse, log) = TABLE[(offset >> 19) as usize % TABLE.len()];

    let r = z * inverse - 1.0;
    let y0 = log + f64::from(k) * LN_2;
    let r2 = r * r;
    let y = CUBIC[1] * r + CUBIC[2];
    let y = CUBIC[0] * r2 + y;
    (y * r2 + (y0 + r)) as f32
}

#[cfg(test)]
mod tests {
    use super::logf;

    #[test]
    fn gives_the_bits_of_the_c_library() {
        // Bits of glibc 2.36's logf. The libm crate differs at the first four.
        for (x, bits) in [
            (0x3c00_055a, 0xc09b_427f),
            (0x3c51_28cc, 0xc08b_8d05),
            (0x3ca2_4c18, 0xc07a_f997),
            (0x3cf3_6f96, 0xc061_071f),
            (0x3f00_0000, 0xbf31_7218),
            (0x3efc_9630, 0xbf34_e1c9),
            (0x402c_ce6e, 0x3f7e_482a),
            (0x0001_16c2, 0xc2b8_34f2),
            (0x7f7f_ffff, 0x42b1_7218),
            (0x3586_37bd, 0xc15d_0c55),
            (0x3f7f_ffff, 0xb380_0000),
        ] {
            assert_eq!(logf(f32::from_bits(x)).to_bits(), bits, "{x:#010x}");
        }
    }

    #[test]
    fn stays_within_one_unit_of_the_exact_value() {
        for bits in (1..f32::INFINITY.to_bits()).step_by(9973) {
            let x = f32::from_bits(bits);
            let exact = libm::log(f64::from(x));
            let error = (f64::from(logf(x)) - exact).abs();
            assert!(error <= f64::from(f32::EPSILON) * exact.abs(), "{x:e}");
        }
    }

    #[test]
    fn special_values() {
        assert_eq!(logf(1.0), 0.0);
        assert_eq!(logf(0.0), f32::NEG_INFINITY);
        assert_eq!(logf(f32::INFINITY), f32::INFINITY);
        assert!(logf(-1.0).is_nan() && logf(f32::NAN).is_nan());
    }
}
