package imaptest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Revealed looks for the secrets in data: as they are, quoted, in hexadecimal,
// and in base64 at each of the three places a byte can have in it, so that a
// password is also found inside the response of SASL PLAIN. It returns one
// sentence a find.
func Revealed(data []byte, secrets ...string) []string {
	var found []string
	for _, secret := range secrets {
		for how, spelling := range spellings(secret) {
			if spelling != "" && bytes.Contains(data, []byte(spelling)) {
				found = append(found, fmt.Sprintf("%q, %s", secret, how))
			}
		}
	}
	return found
}

func spellings(secret string) map[string]string {
	all := map[string]string{
		"as it is":       secret,
		"in hexadecimal": hex.EncodeToString([]byte(secret)),
	}
	if quoted := strconv.Quote(secret); quoted != `"`+secret+`"` {
		all["quoted"] = quoted[1 : len(quoted)-1]
	}
	for shift := range 3 {
		// The characters that also depend on what stands before and behind the
		// secret are left off: shift bytes spill into shift+1 characters, and
		// an incomplete group of three at the end into one.
		coded := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		from, to := 0, len(coded)
		if shift > 0 {
			from = shift + 1
		}
		if (shift+len(secret))%3 != 0 {
			to--
		}
		// Four characters are three bytes; less would be found by chance.
		if to-from >= 4 {
			all[fmt.Sprintf("in base64, shifted by %d", shift)] = coded[from:to]
		}
	}
	return all
}
