package pool

// The hash has to be the same in every process and every version, since it
// decides where users are: FNV-1a, and then the finalizer of MurmurHash3, because
// the high bits of FNV-1a hardly differ among short strings.

func hash[S string | []byte](s S) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
