// Package dovecotauth is the server side of two small protocols that Dovecot
// brought up and that mail servers speak to ask about passwords:
//
//   - Server speaks the auth-client protocol. Postfix (smtpd_sasl_type =
//     dovecot), Exim, chasquid, Prosody and Radicale send it the SASL exchange of
//     their client, and learn the user's name, or that there is none.
//   - UserDB speaks the master protocol of Dovecot's auth-userdb socket, and says
//     of every user that it cannot tell.
//
// Lines end in LF and are divided by TABs. The client numbers its requests; they
// run in parallel, and each gets exactly one final answer, in any order:
//
//	C: VERSION  1  0
//	C: CPID     21621
//	C: AUTH     7  PLAIN  service=smtp  rip=192.0.2.1
//	S: CONT     7  (empty)
//	C: CONT     7  AGFsaWNlAHNlY3JldA==
//	S: OK       7  user=alice
//
// The package knows no SASL beyond PLAIN and LOGIN, and nothing of how passwords
// are checked: a login.Checker is asked, and its verdict put into the words of
// the protocol. Other mechanisms are relayed: the Checker asks the client.
//
// A connection has three kinds of goroutines: the caller's, which reads; one
// that writes; and one for each password that is being checked, or exchange that is
// being relayed. Serve returns
// when all have ended.
package dovecotauth
