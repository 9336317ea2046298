package login

import "strings"

// saslNames has what takes the place of commas and equals signs in a name (RFC 5801
// section 4).
var saslNames = strings.NewReplacer("=", "=3D", ",", "=2C")

// SASLName returns a name as it is written in a GS2 header.
func SASLName(name string) string { return saslNames.Replace(name) }
