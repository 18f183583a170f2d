/* Stands in for durable subscriptions until they are there: each is refused. */
#include "role/channel.h"

int consumer_new(struct subscription*s,const struct frame*f){(void)s;(void)f;return -2;}
void consumer_free(struct consumer*c){(void)c;}
const struct frame_view *consumer_name(const struct consumer*c){(void)c;return NULL;}
int consumer_ask(struct connection*c,struct state_txn*t,struct subscription*s,const struct subscriptions_row*r){(void)c;(void)t;(void)s;(void)r;return 0;}
void consumer_opened(struct connection*c,const struct inbox_entry*e,const void*b){(void)c;(void)e;(void)b;}
int consumer_next(struct subscription*s,int64_t n,struct channel_run*r){(void)s;(void)n;(void)r;return 0;}
void consumer_sent(struct subscription*s,uint64_t f,uint64_t n){(void)s;(void)f;(void)n;}
uint64_t consumer_lost(struct subscription*s,uint64_t o){(void)s;(void)o;return 0;}
void consumer_verdict_frame(struct connection*c,const struct frame*f){(void)c;(void)f;}
int64_t consumer_next_deadline(struct connection*c){(void)c;return INT64_MAX;}
void consumer_tick(struct connection*c,int64_t n){(void)c;(void)n;}
int consumer_apply_cursor(struct connection*c,struct state_txn*t,struct intent*i){(void)c;(void)t;(void)i;return 0;}
void consumer_save(struct connection*c,struct subscription*s){(void)c;(void)s;}
