//! Sizes of dimensions as products of the number of rows, a number, and sizes that only a run knows.

/// `rowsᵇ · factor · Π symbols`, with `b` 0 or 1.
///
/// A symbol is a size that a run knows and that is the same for all requests of a joined run, e.g. the length
/// of a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Size {
    /// Whether the number of rows is a factor.
    pub(super) rows: bool,
    factor: u64,
    /// Sorted.
    symbols: Vec<u32>,
}

impl Size {
    pub(super) const fn fixed(factor: u64) -> Self {
        Self { rows: false, factor, symbols: Vec::new() }
    }

    /// The number of rows.
    pub(super) const fn rows() -> Self {
        Self { rows: true, factor: 1, symbols: Vec::new() }
    }

    pub(super) fn symbol(symbol: u32) -> Self {
        Self { rows: false, factor: 1, symbols: vec![symbol] }
    }

    /// The number, where it is one.
    pub(super) fn number(&self) -> Option<u64> {
        (!self.rows && self.symbols.is_empty()).then_some(self.factor)
    }

    pub(super) fn is(&self, number: u64) -> bool {
        self.number() == Some(number)
    }

    /// `None` for a product that is not of this form.
    pub(super) fn times(&self, other: &Self) -> Option<Self> {
        if self.rows && other.rows {
            return None;
        }
        let mut symbols = self.symbols.clone();
        symbols.extend(&other.symbols);
        symbols.sort_unstable();
        Some(Self { rows: self.rows || other.rows, factor: self.factor.checked_mul(other.factor)?, symbols })
    }

    /// The exact quotient, where there is one whatever the symbols are.
    pub(super) fn over(&self, other: &Self) -> Option<Self> {
        if other.factor == 0 || (other.rows && !self.rows) || !self.factor.is_multiple_of(other.factor) {
            return None;
        }
        let mut symbols = self.symbols.clone();
        for symbol in &other.symbols {
            let at = symbols.iter().position(|mine| mine == symbol)?;
            symbols.remove(at);
        }
        Some(Self { rows: self.rows != other.rows, factor: self.factor / other.factor, symbols })
    }

    pub(super) fn product<'size>(sizes: impl IntoIterator<Item = &'size Self>) -> Option<Self> {
        sizes.into_iter().try_fold(Self::fixed(1), |product, size| product.times(size))
    }
}

/// An integer of a constant, or of a tensor that describes shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Number {
    /// Not below 0.
    Size(Size),
    /// Below 0.
    Negative(i64),
    /// The same for all requests of a joined run; that is all that is known.
    Opaque,
}

impl Number {
    pub(super) fn of(number: i64) -> Self {
        u64::try_from(number).map_or(Self::Negative(number), |size| Self::Size(Size::fixed(size)))
    }

    /// Its value, where that is known.
    pub(super) fn value(&self) -> Option<i64> {
        match self {
            Self::Size(size) => size.number().and_then(|number| i64::try_from(number).ok()),
            Self::Negative(number) => Some(*number),
            Self::Opaque => None,
        }
    }

    pub(super) fn has_rows(&self) -> bool {
        matches!(self, Self::Size(size) if size.rows)
    }
}
