package doctor

import "strings"

// queue is the directory that paths in main.cf without a slash are in.
const queue = "/var/spool/postfix/"

// MainCF are the lines for Postfix's main.cf that fit a listener.
func MainCF(a Auth) []string {
	path := "inet:" + a.Dial
	if a.Network == "unix" {
		// Inside of the queue directory it is found from a chroot, too.
		path = strings.TrimPrefix(a.Dial, queue)
	}
	return []string{
		"smtpd_sasl_type = dovecot",
		"smtpd_sasl_path = " + path,
		"smtpd_sasl_auth_enable = yes",
		"smtpd_tls_auth_only = yes",
	}
}
