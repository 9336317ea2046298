// Command bench measures what the proxy costs, side by side with the other IMAP
// proxies of the machine, and writes the tables of docs/performance.md. It reads
// /proc and so runs on Linux only.
package main
