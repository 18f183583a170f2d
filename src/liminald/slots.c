/* slots: see slots.h. */
#include <sys/mman.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "liminald/slots.h"

/* Slots beyond max_connections for what has ended but is not cleaned up after: as many ends
 * may be waiting for the keeper before accepting pauses. */
#define SLOTS_SLACK(max)	((max) / 4 + 64)

uint32_t
slots_needed(uint32_t max_connections)
{
	return BOARD_N_SERVICES + max_connections + SLOTS_SLACK(max_connections);
}

/* Lists, linked by index through the slots. */

static void
slots_list_init(struct slots_list *list)
{
	*list = (struct slots_list){ .first = SLOTS_NONE, .last = SLOTS_NONE };
}

static void
slots_list_append(struct slots *slots, struct slots_list *list, uint32_t i)
{
	struct slots_slot *s = &slots->slot[i];

	s->next = SLOTS_NONE;
	s->prev = list->last;
	if (list->last != SLOTS_NONE)
		slots->slot[list->last].next = i;
	else
		list->first = i;
	list->last = i;
	list->n++;
}

static void
slots_list_prepend(struct slots *slots, struct slots_list *list, uint32_t i)
{
	struct slots_slot *s = &slots->slot[i];

	s->prev = SLOTS_NONE;
	s->next = list->first;
	if (list->first != SLOTS_NONE)
		slots->slot[list->first].prev = i;
	else
		list->last = i;
	list->first = i;
	list->n++;
}

static void
slots_list_remove(struct slots *slots, struct slots_list *list, uint32_t i)
{
	struct slots_slot *s = &slots->slot[i];

	if (s->prev != SLOTS_NONE)
		slots->slot[s->prev].next = s->next;
	else
		list->first = s->next;
	if (s->next != SLOTS_NONE)
		slots->slot[s->next].prev = s->prev;
	else
		list->last = s->prev;
	list->n--;
}

static void
slots_expect(const struct slots *slots, uint32_t i, enum slots_state state)
{
	if (slots->slot[i].state != state)
		log_panic("slots slot=%u state=%d expected=%d", i, (int)slots->slot[i].state,
		    (int)state);
}

int
slots_open(struct slots *slots, struct board *board, struct err *err)
{
	uint32_t n = board->n_slots, hash_size = 64;
	size_t records = n * sizeof(struct slots_slot), index;
	uint8_t *map;

	while (hash_size < n)
		hash_size *= 2;
	index = hash_size * sizeof(uint32_t);
	*slots = (struct slots){ .board = board, .n = n, .pid_mask = hash_size - 1 };
	slots->map_size = records + index + addresses_size(n);
	map = mmap(NULL, slots->map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	    -1, 0);
	if (map == MAP_FAILED)
		return err_set(err, ERR_NOMEM, "no memory for %u slots (limits connections)", n);
	(void)madvise(map, slots->map_size, MADV_DONTFORK);
	slots->map = map;
	slots->slot = (struct slots_slot *)(void *)map;
	slots->by_pid = (uint32_t *)(void *)(map + records);
	for (uint32_t i = 0; i < hash_size; i++)
		slots->by_pid[i] = SLOTS_NONE;
	addresses_init(&slots->addresses, map + records + index, n);
	slots_list_init(&slots->free_connections);
	slots_list_init(&slots->live);
	slots_list_init(&slots->ended);
	slots_list_init(&slots->told);
	for (uint32_t i = BOARD_N_SERVICES; i < n; i++)
		slots_list_append(slots, &slots->free_connections, i);
	return 0;
}

void
slots_close(struct slots *slots)
{
	munmap(slots->map, slots->map_size);
}

uint32_t
slots_take(struct slots *slots, enum board_kind kind, uint64_t conn_id,
    const struct net_peer *peer)
{
	uint32_t i = kind == BOARD_CONNECTION ? slots->free_connections.first :
	    BOARD_SERVICE_SLOT(kind);
	struct slots_slot *s;

	if (i == SLOTS_NONE)
		return SLOTS_NONE;
	slots_expect(slots, i, SLOTS_FREE);
	if (kind == BOARD_CONNECTION)
		slots_list_remove(slots, &slots->free_connections, i);
	s = &slots->slot[i];
	s->state = SLOTS_TAKEN;
	s->kind = kind;
	s->conn_id = conn_id;
	s->seen_wait_ns = 0;
	s->killed_for = NULL;
	s->address = ADDRESSES_NONE;
	snprintf(s->peer, sizeof(s->peer), "%s", peer != NULL ? peer->text : "");
	if (peer != NULL && peer->has_address)
		s->address = addresses_add(&slots->addresses, peer->address);
	board_take(slots->board, i, kind, conn_id);
	return i;
}

void
slots_forked(struct slots *slots, uint32_t i, pid_t pid)
{
	struct slots_slot *s = &slots->slot[i];
	uint32_t *bucket = &slots->by_pid[(uint32_t)pid & slots->pid_mask];

	slots_expect(slots, i, SLOTS_TAKEN);
	s->state = SLOTS_LIVE;
	s->pid = pid;
	s->by_pid = *bucket;
	*bucket = i;
	atomic_store(&slots->board->slots[i].pid, (int32_t)pid);
	if (s->kind == BOARD_CONNECTION)
		slots_list_append(slots, &slots->live, i);
}

static void
slots_drop_address(struct slots *slots, struct slots_slot *s)
{
	if (s->address != ADDRESSES_NONE)
		addresses_drop(&slots->addresses, s->address);
	s->address = ADDRESSES_NONE;
}

static void
slots_free(struct slots *slots, uint32_t i)
{
	struct slots_slot *s = &slots->slot[i];

	s->state = SLOTS_FREE;
	s->pid = 0;
	board_release(slots->board, i);
	/* The one used last is the one whose memory is warm. */
	if (s->kind == BOARD_CONNECTION)
		slots_list_prepend(slots, &slots->free_connections, i);
}

void
slots_give_back(struct slots *slots, uint32_t i)
{
	slots_expect(slots, i, SLOTS_TAKEN);
	slots_drop_address(slots, &slots->slot[i]);
	slots_free(slots, i);
}

uint32_t
slots_find_pid(const struct slots *slots, pid_t pid)
{
	uint32_t i = slots->by_pid[(uint32_t)pid & slots->pid_mask];

	while (i != SLOTS_NONE && slots->slot[i].pid != pid)
		i = slots->slot[i].by_pid;
	return i;
}

void
slots_reaped(struct slots *slots, uint32_t i, int wait_status)
{
	struct slots_slot *s = &slots->slot[i];
	uint32_t *link = &slots->by_pid[(uint32_t)s->pid & slots->pid_mask];

	slots_expect(slots, i, SLOTS_LIVE);
	while (*link != i)
		link = &slots->slot[*link].by_pid;
	*link = s->by_pid;
	s->wait_status = wait_status;
	if (s->kind != BOARD_CONNECTION) {
		slots_free(slots, i);
		return;
	}
	slots_list_remove(slots, &slots->live, i);
	slots_drop_address(slots, s);
	s->state = SLOTS_ENDED;
	slots_list_append(slots, &slots->ended, i);
}

void
slots_told(struct slots *slots, uint32_t i, int64_t now_ns)
{
	slots_expect(slots, i, SLOTS_ENDED);
	slots_list_remove(slots, &slots->ended, i);
	slots->slot[i].state = SLOTS_TOLD;
	slots->slot[i].told_ns = now_ns;
	slots_list_append(slots, &slots->told, i);
}

void
slots_untell(struct slots *slots)
{
	uint32_t i;

	while ((i = slots->told.last) != SLOTS_NONE) {
		slots_list_remove(slots, &slots->told, i);
		slots->slot[i].state = SLOTS_ENDED;
		slots_list_prepend(slots, &slots->ended, i);
	}
}

void
slots_cleaned(struct slots *slots, uint32_t i)
{
	slots_expect(slots, i, SLOTS_TOLD);
	slots_list_remove(slots, &slots->told, i);
	slots_free(slots, i);
}

void
slots_kill(struct slots *slots, uint32_t i, int sig, const char *reason)
{
	struct slots_slot *s = &slots->slot[i];

	/* Only what is not yet reaped: any other pid may be somebody else's by now. */
	if (s->state != SLOTS_LIVE)
		return;
	if (s->killed_for == NULL)
		s->killed_for = reason;
	if (kill(s->pid, sig) == -1)
		log_warn("kill pid=%d signal=%d", (int)s->pid, sig);
}
