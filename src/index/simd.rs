//! The inner product of two int8 vectors: the one loop in which a vector search spends its time.
//!
//! On x86-64 with AVX2 (detected while running) 32 products are formed at a time; elsewhere a plain loop is used, which
//! the compiler vectorises by itself where the target allows (NEON is part of every 64-bit ARM). This is the only file
//! of the index with `unsafe` code, and both uses are one line each: the call that needs the CPU feature, and the load.
//!
//! Elements must lie in -127..=127. The AVX2 path forms |a|·(b with the sign of a) in 16-bit lanes, two products to a
//! lane: 2·127·127 fits in an `i16`, and -128 would not survive the change of sign. A plain
//! `vpmovsxbw`/`vpmaddwd` loop, which the compiler writes by itself, needs no such limit but took 23 ns for 384
//! elements where this takes 9 ns.

/// The inner product over the shorter of the two lengths. Elements must lie in -127..=127.
pub(super) fn dot(a: &[i8], b: &[i8]) -> i32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "the feature has just been detected")]
        // SAFETY: `dot_avx2` asks for nothing but AVX2.
        return unsafe { dot_avx2(a, b) };
    }
    dot_portable(a, b)
}

/// The inner product of `query` and each row of `plane` in turn, a row being as long as the query.
pub(super) fn dot_each(query: &[i8], plane: &[i8], seen: impl FnMut(i32)) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "the feature has just been detected")]
        // SAFETY: `dot_each_avx2` asks for nothing but AVX2.
        return unsafe { dot_each_avx2(query, plane, seen) };
    }
    plane.chunks_exact(query.len().max(1)).map(|row| dot_portable(query, row)).for_each(seen);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dot_each_avx2(query: &[i8], plane: &[i8], mut seen: impl FnMut(i32)) {
    for row in plane.chunks_exact(query.len().max(1)) {
        seen(dot_avx2(query, row));
    }
}

/// The same result without special instructions.
fn dot_portable(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn dot_avx2(a: &[i8], b: &[i8]) -> i32 {
    use std::arch::x86_64::{
        _mm_add_epi32, _mm_cvtsi128_si32, _mm_shuffle_epi32, _mm256_abs_epi8, _mm256_add_epi32, _mm256_castsi256_si128,
        _mm256_extracti128_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_setzero_si256,
        _mm256_sign_epi8,
    };

    let shorter = a.len().min(b.len());
    let (a, b) = (a.get(..shorter).unwrap_or(a), b.get(..shorter).unwrap_or(b));
    let (a_blocks, a_rest) = a.as_chunks::<32>();
    let (b_blocks, b_rest) = b.as_chunks::<32>();
    let ones = _mm256_set1_epi16(1);
    let mut sums = _mm256_setzero_si256();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        let (x, y) = (load(x), load(y));
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(y, x));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
    }
    let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
    _mm_cvtsi128_si32(one) + dot_portable(a_rest, b_rest)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn load(block: &[i8; 32]) -> std::arch::x86_64::__m256i {
    #[expect(unsafe_code, reason = "the intrinsic takes a pointer")]
    // SAFETY: the array is 32 bytes long and the load asks for no alignment.
    unsafe {
        std::arch::x86_64::_mm256_loadu_si256(block.as_ptr().cast())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_path_gives_the_same_inner_product(
            a in prop::collection::vec(-127i8..=127, 0..400),
            b in prop::collection::vec(-127i8..=127, 0..400),
        ) {
            let expected: i64 = a.iter().zip(&b).map(|(&x, &y)| i64::from(x) * i64::from(y)).sum();
            prop_assert_eq!(i64::from(dot(&a, &b)), expected);
            prop_assert_eq!(i64::from(dot_portable(&a, &b)), expected);
        }
    }

    #[test]
    fn extreme_values_do_not_saturate() {
        for len in [1, 31, 32, 33, 384, 1_537] {
            let (high, low) = (vec![127i8; len], vec![-127i8; len]);
            let expected = 127 * 127 * i32::try_from(len).unwrap();
            assert_eq!(dot(&high, &high), expected);
            assert_eq!(dot(&low, &low), expected);
            assert_eq!(dot(&high, &low), -expected);
            assert_eq!(dot(&low, &high), -expected);
        }
    }
}
