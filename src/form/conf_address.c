/*
 * conf_address: the form of an address, host:port, [v6]:port or unix:path. Nothing is
 * resolved: whether a name has an address shows when it is bound.
 */
#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>

#include "form/conf_parts.h"

static bool
is_port(const char *text)
{
	unsigned port = 0;

	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return false;
		port = port * 10 + (unsigned)(*text - '0');
		if (port > 65535)
			return false;
	}
	return true;
}

static bool
is_ipv6(const char *text, size_t len)
{
	char buf[INET6_ADDRSTRLEN];
	const char *scope = memchr(text, '%', len);
	struct in6_addr addr;

	if (scope != NULL) {	/* fe80::1%eth0 */
		if (scope + 1 == text + len)
			return false;
		len = (size_t)(scope - text);
	}
	if (len >= sizeof buf)
		return false;
	memcpy(buf, text, len);
	buf[len] = '\0';
	return inet_pton(AF_INET6, buf, &addr) == 1;
}

static bool
is_host(const char *text, size_t len)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "0123456789.-_";
	static const char numeric[] = "0123456789.";
	char buf[INET_ADDRSTRLEN];
	struct in_addr addr;

	if (len == 0 || len > 253 || strspn(text, allowed) < len)
		return false;
	if (strspn(text, numeric) < len)
		return true;
	if (len >= sizeof buf)
		return false;
	memcpy(buf, text, len);
	buf[len] = '\0';
	return inet_pton(AF_INET, buf, &addr) == 1;
}

const char *
conf_address_check(const char *text)
{
	const char *colon, *close;

	if (strncmp(text, "unix:", 5) == 0) {
		if (text[5] == '\0')
			return "the path after unix: is missing";
		for (colon = text; *colon != '\0'; colon++)
			if ((unsigned char)*colon < 0x20 || *colon == 0x7f)
				return "the path has control characters";
		if (strlen(text + 5) >= sizeof ((struct sockaddr_un *)NULL)->sun_path)
			return "the path of a Unix socket is at most 107 bytes long";
		return NULL;
	}
	if (*text == '[') {
		close = strchr(text, ']');
		if (close == NULL || !is_ipv6(text + 1, (size_t)(close - text - 1)))
			return "what is in brackets is not an IPv6 address";
		colon = close[1] == ':' ? close + 1 : NULL;
	} else {
		colon = strchr(text, ':');
		if (is_ipv6(text, strlen(text)) || (colon != NULL &&
		    text[strspn(text, "0123456789abcdefABCDEF:.")] == '\0' &&
		    strchr(colon + 1, ':') != NULL))
			return "an IPv6 address needs brackets: [address]:port";
		if (colon != NULL && !is_host(text, (size_t)(colon - text)))
			return "what is before the colon is not a host";
	}
	if (colon == NULL)
		return "not an address: host:port, [v6]:port or unix:/path";
	if (!is_port(colon + 1))
		return "the port is not a number from 0 to 65535";
	return NULL;
}
