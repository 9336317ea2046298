package imaptest

import (
	"fmt"
	"time"

	"github.com/pires/go-proxyproto"
)

// Proxied reads the PROXY header that must come first on the connection, and
// returns it in words, such as "v1 192.0.2.1:4000 192.0.2.2:143", or "v2 local".
func (c *Conn) Proxied() string {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	header, err := proxyproto.Read(c.br)
	switch {
	case err != nil:
		c.fail("reading a PROXY header: %v", err)
		return ""
	case header.Command == proxyproto.LOCAL:
		return fmt.Sprintf("v%d local", header.Version)
	}
	return fmt.Sprintf("v%d %s %s", header.Version, header.SourceAddr, header.DestinationAddr)
}
