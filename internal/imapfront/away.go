package imapfront

// TurnAway tells a client why it is not served, in one line before any greeting:
// a BYE (RFC 9051 section 7.1.5) with the code LIMIT (RFC 5530 section 3). It does
// not own the connection, and reads nothing from it.
//
// Where TLS is yet to begin with the first byte, nothing is said: there would have to
// be a handshake first, and those who are turned away are not to cost one.
func TurnAway(cfg *Config, c Client, why string) error {
	if c.TLS == nil && cfg.ImplicitTLS {
		return nil
	}
	f := &front{conn: c.Conn}
	f.printf("* BYE [LIMIT] %s", why)
	return f.flush()
}
