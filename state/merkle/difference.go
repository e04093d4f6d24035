package merkle

// FirstDifference gives the first range of keys, both ends included, in which two
// tries differ, by descending from their roots: the smallest sub-trie of which no
// side can be told to be the same. ok is false where they are equal.
func FirstDifference(a, b *Trie) (from, to [KeySize]byte, ok bool, err error) {
	x, y := a.cursor(), b.cursor()
	for {
		if x, err = x.open(); err != nil {
			return from, to, false, err
		}
		if y, err = y.open(); err != nil {
			return from, to, false, err
		}
		countX, hashX := x.sum()
		countY, hashY := y.sum()
		if hashX == hashY {
			return from, to, false, nil // only at the roots
		}
		if countX <= 1 || countY <= 1 {
			from, to = x.bits, x.last()
			if len(x.entries) == 1 && len(y.entries) == 1 && x.entries[0].key == y.entries[0].key {
				from, to = x.entries[0].key, x.entries[0].key
			}
			return from, to, true, nil
		}
		leftX, rightX, err := x.children()
		if err != nil {
			return from, to, false, err
		}
		leftY, rightY, err := y.children()
		if err != nil {
			return from, to, false, err
		}
		_, hashX = leftX.sum()
		_, hashY = leftY.sum()
		if x, y = leftX, leftY; hashX == hashY {
			x, y = rightX, rightY
		}
	}
}
