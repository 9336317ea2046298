package imapext

import (
	"errors"
	"io"
)

// errDeflate says that bytes are not in the format of RFC 1951.
var errDeflate = errors.New("the client sent what cannot be decompressed")

const (
	// windowSize is how far back a match can be, and inflateChunk how much is read at once.
	windowSize   = 32 << 10
	inflateChunk = 4 << 10

	maxCodeBits  = 15
	literalCodes = 288
	lengthCodes  = 19
	endOfBlock   = 256
)

// inflater decompresses a stream (RFC 1951). Unlike compress/flate it can be interrupted
// anywhere, as by a deadline, and goes on from there; and while it waits it holds no more
// of the window than what was sent in all. Each step looks whether the bits that it needs
// are there before it takes any.
type inflater struct {
	in    []byte
	bits  uint64
	nbits uint

	state inflateState
	final bool
	// left is how much of a stored block, or of a match, is still to come, and distance
	// how far back the match is.
	left, distance int

	window []byte
	at     int

	literals, distances codes
	// lengths are those of the codes of a block, of which some are known.
	lengths          [literalCodes + 32]uint8
	known, sizeOf    int
	literalsOf, want int
}

type inflateState uint8

const (
	atBlock inflateState = iota
	atStored
	inStored
	atTables
	inLengthCodes
	inLengths
	inBlock
	inMatch
	inflated
)

// codes is a Huffman code: how many codes of each length there are, and what they mean,
// in order.
type codes struct {
	count   [maxCodeBits + 1]uint16
	symbols [literalCodes]uint16
	longest uint
}

// make makes the code from the lengths. One that is not complete is taken if it has one
// code at most.
func (h *codes) make(lengths []uint8) error {
	h.count = [maxCodeBits + 1]uint16{}
	for _, n := range lengths {
		h.count[n]++
	}
	var next [maxCodeBits + 2]uint16
	left := 1
	h.longest = 0
	for n := 1; n <= maxCodeBits; n++ {
		if h.count[n] > 0 {
			h.longest = uint(n)
		}
		if left = left<<1 - int(h.count[n]); left < 0 {
			return errDeflate
		}
		next[n+1] = next[n] + h.count[n]
	}
	if used := len(lengths) - int(h.count[0]); left > 0 && (used > 1 || used == 1 && h.count[1] != 1) {
		return errDeflate
	}
	for symbol, n := range lengths {
		if n > 0 {
			h.symbols[next[n]] = uint16(symbol)
			next[n]++
		}
	}
	h.count[0] = 0
	return nil
}

// read looks at the code behind so many bits. It returns how many bits there are with it,
// or false if more are needed.
func (z *inflater) read(h *codes, skip uint) (symbol int, used uint, ok bool, err error) {
	code, first, index := 0, 0, 0
	for n := uint(1); n <= h.longest; n++ {
		if skip+n > z.nbits {
			return 0, 0, false, nil
		}
		code |= int(z.bits >> (skip + n - 1) & 1)
		count := int(h.count[n])
		if code-first < count {
			return int(h.symbols[index+code-first]), skip + n, true, nil
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 0, false, errDeflate
}

// peek returns bits behind others, if they are there.
func (z *inflater) peek(skip, n uint) (int, bool) {
	return int(z.bits >> skip & (1<<n - 1)), skip+n <= z.nbits
}

func (z *inflater) drop(n uint) { z.bits, z.nbits = z.bits>>n, z.nbits-n }

// inflate writes to p what can be made of the input. If it fills less of p, all of the
// input is used up.
func (z *inflater) inflate(p []byte) (n int, err error) {
	for n < len(p) {
		for z.nbits <= 56 && len(z.in) > 0 {
			z.bits |= uint64(z.in[0]) << z.nbits
			z.in, z.nbits = z.in[1:], z.nbits+8
		}
		switch z.state {
		case inStored:
			b, ok := z.peek(0, 8)
			if !ok {
				return n, nil
			}
			z.drop(8)
			p[n] = z.keep(byte(b))
			n++
			if z.left--; z.left == 0 {
				z.endBlock()
			}
		case inMatch:
			p[n] = z.keep(z.back(z.distance))
			n++
			if z.left--; z.left == 0 {
				z.state = inBlock
			}
		case inBlock:
			literal, ok, err := z.symbol()
			if err != nil || !ok {
				return n, err
			}
			if literal >= 0 {
				p[n] = z.keep(byte(literal))
				n++
			}
		case inflated:
			return n, io.EOF
		default:
			if ok, err := z.header(); err != nil || !ok {
				return n, err
			}
		}
	}
	return n, nil
}

// keep puts a byte into the window.
func (z *inflater) keep(b byte) byte {
	if len(z.window) < windowSize {
		z.window = append(z.window, b)
		return b
	}
	z.window[z.at] = b
	z.at = (z.at + 1) % windowSize
	return b
}

// back returns the byte that is so far back.
func (z *inflater) back(distance int) byte {
	if len(z.window) < windowSize {
		return z.window[len(z.window)-distance]
	}
	return z.window[(z.at-distance+windowSize)%windowSize]
}

func (z *inflater) endBlock() {
	z.state = atBlock
	if z.final {
		z.state = inflated
	}
}

// The bases and extra bits of lengths and distances (RFC 1951 section 3.2.5).
var (
	lengthBase    = [...]int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra   = [...]uint{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distanceBase  = [...]int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distanceExtra = [...]uint{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// symbol takes a literal, or the beginning of a match, which is -1.
func (z *inflater) symbol() (literal int, ok bool, err error) {
	symbol, used, ok, err := z.read(&z.literals, 0)
	switch {
	case err != nil || !ok:
		return 0, false, err
	case symbol < endOfBlock:
		z.drop(used)
		return symbol, true, nil
	case symbol == endOfBlock:
		z.drop(used)
		z.endBlock()
		return -1, true, nil
	case symbol-endOfBlock-1 >= len(lengthBase):
		return 0, false, errDeflate
	}
	symbol -= endOfBlock + 1
	more, ok := z.peek(used, lengthExtra[symbol])
	if !ok {
		return 0, false, nil
	}
	length := lengthBase[symbol] + more
	symbol, used, ok, err = z.read(&z.distances, used+lengthExtra[symbol])
	switch {
	case err != nil || !ok:
		return 0, false, err
	case symbol >= len(distanceBase):
		return 0, false, errDeflate
	}
	if more, ok = z.peek(used, distanceExtra[symbol]); !ok {
		return 0, false, nil
	}
	z.left, z.distance = length, distanceBase[symbol]+more
	if z.distance > len(z.window) {
		return 0, false, errDeflate
	}
	z.drop(used + distanceExtra[symbol])
	z.state = inMatch
	return -1, true, nil
}
