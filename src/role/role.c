/* role: see role.h. */
#include <sys/wait.h>

#include <stdio.h>
#include <string.h>

#include "role/role.h"

const char *
role_exit_text(int status)
{
	switch (status) {
	case ROLE_EXIT_OK:
		return "the peer left, or was asked to";
	case ROLE_EXIT_PROTOCOL:
		return "the peer sent bytes that do not decode or that the protocol forbids";
	case ROLE_EXIT_REFUSED:
		return "the handshake was refused";
	case ROLE_EXIT_SHED:
		return "the peer does not read what it asked for";
	case ROLE_EXIT_STATE:
		return "the state environment cannot be used";
	case ROLE_EXIT_SYSTEM:
		return "memory or a system call failed";
	case ROLE_EXIT_FLUSH:
		return "what had to be durable could not be written";
	case ROLE_EXIT_MODULE:
		return "the module cannot be loaded, or refused to start";
	default:
		return "not a status of this program";
	}
}

char *
role_describe_program_end(int wait_status, char *out, size_t size)
{
	if (WIFEXITED(wait_status)) {
		snprintf(out, size, "exited with status %d", WEXITSTATUS(wait_status));
	} else if (WIFSIGNALED(wait_status)) {
		int sig = WTERMSIG(wait_status);
		const char *name = sigabbrev_np(sig);

		snprintf(out, size, "killed by signal %d (%s%s)%s", sig,
		    name != NULL ? "SIG" : "", name != NULL ? name : "real-time",
		    WCOREDUMP(wait_status) ? ", core dumped" : "");
	} else {
		snprintf(out, size, "ended with wait status 0x%x", (unsigned)wait_status);
	}
	return out;
}

char *
role_describe_end(int wait_status, char *out, size_t size)
{
	if (!WIFEXITED(wait_status))
		return role_describe_program_end(wait_status, out, size);
	snprintf(out, size, "exited with status %d (%s)", WEXITSTATUS(wait_status),
	    role_exit_text(WEXITSTATUS(wait_status)));
	return out;
}
