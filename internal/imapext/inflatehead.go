package imapext

// lengthOrder is the order in which the lengths of the codes for lengths come (RFC 1951
// section 3.2.7).
var lengthOrder = [lengthCodes]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// header takes a part of what is in front of a block. It returns false if more bits are
// needed.
func (z *inflater) header() (ok bool, err error) {
	switch z.state {
	case atBlock:
		return z.block()
	case atStored:
		sizes, ok := z.peek(0, 32)
		if !ok {
			return false, nil
		}
		z.drop(32)
		if z.left = sizes & 0xffff; z.left != ^(sizes>>16)&0xffff {
			return false, errDeflate
		}
		if z.state = inStored; z.left == 0 {
			z.endBlock()
		}
	case atTables:
		sizes, ok := z.peek(0, 14)
		if !ok {
			return false, nil
		}
		z.drop(14)
		z.literalsOf, z.sizeOf = sizes&31+257, sizes>>10+4
		z.want = z.literalsOf + sizes>>5&31 + 1
		if z.literalsOf > literalCodes-2 || z.want-z.literalsOf > len(distanceBase) {
			return false, errDeflate
		}
		z.known, z.lengths, z.state = 0, [len(z.lengths)]uint8{}, inLengthCodes
	case inLengthCodes:
		size, ok := z.peek(0, 3)
		if !ok {
			return false, nil
		}
		z.drop(3)
		z.lengths[lengthOrder[z.known]] = uint8(size)
		if z.known++; z.known == z.sizeOf {
			// The code for lengths is needed for no longer than these are read.
			err := z.literals.make(z.lengths[:lengthCodes])
			z.known, z.lengths, z.state = 0, [len(z.lengths)]uint8{}, inLengths
			return true, err
		}
	case inLengths:
		return z.readLengths()
	}
	return true, nil
}

// block takes the first three bits of a block.
func (z *inflater) block() (ok bool, err error) {
	head, ok := z.peek(0, 3)
	if !ok {
		return false, nil
	}
	z.drop(3)
	z.final = head&1 != 0
	switch head >> 1 {
	case 0:
		z.drop(z.nbits % 8)
		z.state = atStored
	case 1:
		for i := range literalCodes {
			switch {
			case i < 144:
				z.lengths[i] = 8
			case i < 256:
				z.lengths[i] = 9
			case i < 280:
				z.lengths[i] = 7
			default:
				z.lengths[i] = 8
			}
		}
		_ = z.literals.make(z.lengths[:literalCodes])
		for i := range 32 {
			z.lengths[i] = 5
		}
		_ = z.distances.make(z.lengths[:32])
		z.state = inBlock
	case 2:
		z.state = atTables
	default:
		return false, errDeflate
	}
	return true, nil
}

// readLengths takes one length of a code, or a run of them.
func (z *inflater) readLengths() (ok bool, err error) {
	symbol, used, ok, err := z.read(&z.literals, 0)
	if err != nil || !ok {
		return false, err
	}
	length, run, extra := uint8(symbol), 1, uint(0)
	switch symbol {
	case 16:
		if z.known == 0 {
			return false, errDeflate
		}
		length, run, extra = z.lengths[z.known-1], 3, 2
	case 17:
		length, run, extra = 0, 3, 3
	case 18:
		length, run, extra = 0, 11, 7
	}
	more, ok := z.peek(used, extra)
	if !ok {
		return false, nil
	}
	if run += more; z.known+run > z.want {
		return false, errDeflate
	}
	z.drop(used + extra)
	for range run {
		z.lengths[z.known] = length
		z.known++
	}
	if z.known < z.want {
		return true, nil
	}
	if z.lengths[endOfBlock] == 0 {
		return false, errDeflate
	}
	z.state = inBlock
	if err := z.literals.make(z.lengths[:z.literalsOf]); err != nil {
		return false, err
	}
	return true, z.distances.make(z.lengths[z.literalsOf:z.want])
}
