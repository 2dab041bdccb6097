// Short stories, letters and dialogues. Data only: each part of a story is a choice, and names keep their meaning to the end.

/** A story is one of each part in order; an empty string may be among the choices. */
export const stories: readonly (readonly string[])[] = [
  // lost and found
  [
    '{o:openings}, {p:people} [could not find|lost|was looking for] {p.his} {c:colors} {t:things}.',
    '{p.he} looked {s1:spots}, but [it was not there|there was only a {u:tools}|{p.he} found nothing].|{p.he} asked {p.his} {r:relatives}, but nobody had seen it.',
    'then {p.he} met {q:people} {pl:places.at}. {q.he} asked, "[What are you looking for?|Can I help you?|Why are you so sad?]" "I am looking for my {t}," said {p}.',
    'they looked together. At last {q} found it {s2:spots}.|"Look {s2:spots}," said {q}. And there it was.|A {a:animals} had [hidden|carried] it {s2:spots}.',
    '{p} was very happy and [thanked {q}|gave {q} a {f:foods}|said, "Thank you so much!"].',
    '|from then on, {p.he} always kept the {t} {s3:spots}.|after that they [were good friends|went home together].',
  ],
  // animal friends
  [
    '[once upon a time|a long time ago|once] there was a {sizes} {a:animals} who lived near the {h:places}.',
    'the {a} had {a.look} and liked to eat {a.food}.|every day the {a} looked for {a.food}.',
    'one day the {a} met a {b:animals}. "[Hello|Good morning], who are you?" asked the {a}. "I am a {b}," said the {b}.',
    '"I can {a.can}," said the {a}. "And I can {b.can}," said the {b}.|"What do you like to eat?" asked the {a}. "I like {b.food}," said the {b}.|"Do you want to play with me?" asked the {b}. "Yes," said the {a}.',
    'suddenly {w:weather.now}, and {w.effect}. They hid together {s:spots}.|then a big {c:animals} came, and they were afraid. But the {c} only wanted to play, too.|they [played|talked] until the sun went down.',
    'from that day on, they were [best|good] friends.|in the evening they were tired and slept {s2:spots}.|"Let us meet again tomorrow," said the {b}.',
  ],
  // a purchase
  [
    '{o:openings}, {p:people} went to the {pl:places} because {p.he} [needed|wanted] a new {t:things}.',
    'the old one was [broken|lost|too small|dirty].|{p.his} {r:relatives} had a birthday.',
    'in the shop there were many {t.plural}: a {c1:colors} one, a {c2:colors} one and a {c3:colors} one.',
    '"How much is the {c1} one?" {p.he} asked. "It costs {n:numbers} coins," said the [man|woman|clerk].',
    'that was [cheap|not much], so {p} bought it and paid.|that was too expensive. So {p.he} took the {c2} one, which cost only {m:numbers} coins.',
    '{p.he} [carried it home|put it {s:spots}|showed it to {p.his} friends] and was [happy|proud|content].',
  ],
  // an order that comes late
  [
    '{o:openings}, {p:people} ordered a {c:colors} {t:things} from a shop in the city.',
    '"It will come in {n:numbers} days," said the clerk [on the phone|].|the shop promised to send it by post.',
    '{p} waited and waited. Every day {p.he} [looked out of the window|asked the postman|went to the door], but [no parcel came|the box did not come|there was nothing].',
    'on {d:days} the postman rang the bell. "Here is your parcel. I am sorry that it is so late," he said.|so {p.he} wrote to the shop. "Where is my {t}?" The next day the parcel was there.',
    'inside was a {t}, but it was {c2:colors} and not {c}. {p} sent it back, and the shop gave the money back.|inside was the {t}. It was even [nicer|bigger|better] than in the picture.|but the {t} was broken. The shop sent {p.him} a new one.',
    '|"Next time I will go to the shop," said {p}.|{p} told everybody about it.',
  ],
  // something breaks
  [
    '{p:people} was [{act:activities.ing}|sitting {pl:places.at}] when {p.his} {x:tools} [stopped working|fell down and broke|did not work any more].',
    '"What now?" thought {p}. Without the {x} {p.he} could not {x.use}.',
    '{p.he} called {q:people}, who [knew a lot about such things|was a {w:workers}|had a good {y:tools}].',
    '{q} looked at it and said, "[This is easy.|A small part is missing.|It is only dirty.|You have to turn it off and on again.]"',
    'after {n:numbers} minutes it worked again.|they cleaned it, and then it worked like new.|but it could not be repaired. So they bought a new one.',
    '{p} [thanked {q}|made tea for both of them|was very glad]. Now {p.he} could {x.use} again.',
  ],
  // a day out
  [
    '{o:openings}, {p:people} and {q:people} went to the {pl:places}.',
    '{w:weather.now}, so they took {w.need}.|they packed {m:meals}, some {f:foods.plural} and a bottle of {dr:drinks}.',
    'first they [saw|watched] a {a:animals} that was looking for {a.food}. Then they {act:activities.past}.|they walked for {n:numbers} hours and {act:activities.past}.',
    '"Are you tired?" asked {p}. "No, but I am hungry," said {q}.|"I like it here," said {q}. "Me too," said {p}.',
    'they sat down {s:spots} and ate {f2:foods.plural}.|at noon they rested and drank {dr2:drinks}.',
    'in the evening they went home. It was a [beautiful|long|good] day.|when it got dark, they walked back, tired but happy.',
  ],
  // a feeling and why
  [
    '{p:people} was {f:feelings}[ today| that day|] because {f.cause}. {p.he} {f.act}.',
    'then {p.his} {r:relatives} came and asked, "[What happened?|How are you?|Is everything all right?]"',
    '"I am {f}," said {p}. "You see, {f.cause}."',
    '"[I understand|I see]," said the {r}. "[Come, let us {act:activities}|Do you want to {act:activities}]?" And so they did.|the {r} gave {p.him} a {t:foods} and sat down beside {p.him}.',
    '|after that {p} felt much better.|soon {p} laughed again.',
  ],
  // work
  [
    '{p:people} is a {w:workers}. Every day {p.he} gets up at {n:numbers} and goes to the {w.place}.',
    '{p.he} {w.work}, and {p.he} does it {manners}.|a {w} {w.work}.',
    '{o:openings}, {p.he} came too late because {we:weather.now} and {we.effect}.|{o:openings}, {p.his} {x:tools} was gone.',
    '{q:people} said, "Do not worry. [I will help you|We have time|Take my {y:tools}]."',
    'together they [finished the work|did everything], and {p} was [thankful|glad|relieved].',
  ],
  // learning
  [
    '{p:people} wanted to learn to {act:activities}. At first it was very [hard|difficult], and {p.he} made many mistakes.',
    '"I cannot do it," said {p}. "You can, but you have to practice," said {p.his} {r:relatives}.',
    'so {p.he} practiced every day {t:times}.',
    'after {n:numbers} weeks {p.he} could do it [very well|better than {q:people}|without a mistake].',
    'everybody was surprised. {p} was proud.|now {p.he} shows it to others.',
  ],
  // a forgotten password and other small troubles of the day
  [
    '{o:openings}, {p:people} wanted to [read {p.his} mail|look at pictures|write a letter] on the computer, but {p.he} had forgotten the password.',
    '{p.he} tried the name of {p.his} {a:animals}. It was wrong. {p.he} tried the name of {p.his} {r:relatives}. It was wrong, too.',
    '"Try again tomorrow," said the computer. The account was locked.',
    '{p} called {q:people}. "[You can get a new password by mail|I wrote it down for you|It is on a paper {s:spots}]," said {q}.',
    'at last the page opened, and {p} could log in. {p.he} [changed the password at once|never forgot it again|wrote it in {p.his} notebook].',
  ],
  // money
  [
    '{p:people} had {n:numbers} coins. {p.he} wanted to buy {f:foods.plural} for {q:people}.',
    'one {f} cost two coins.|at the market everything had become expensive.',
    'the bill was too high, because the [clerk|waiter] had counted one thing twice. "[Excuse me|I am sorry], I think this is wrong," said {p}.',
    '"You are right," said the [man|woman], and gave the money back.',
    '{p} paid with {p.his} card and went home.|{p} thanked them and put the money into {p.his} wallet.',
    '|{q} was happy about the {f.plural}.',
  ],
  // a gift
  [
    '{q:people} had a birthday on {d:days}. {p:people} did not know what to give {q.him}.',
    '"{q} likes to {act:activities}," {p.he} thought. "{q.he} needs a {c:colors} {t:things}."',
    'so {p.he} [bought|made|ordered] a {t} of {t.material} and put it in a box.',
    '{q} opened the box. "A {t}! That is just what I wanted," {q.he} said.',
    'then they ate {m:meals} and {f:foods.plural} and {act2:activities.past} until late.',
  ],
];

/** Messages of people to shops, friends and neighbors. */
export const letters: readonly (readonly string[])[] = [
  [
    'dear {q:people},',
    'how are you? I am fine. {w:weather.today} here.|thank you for your letter. I was very happy about it.',
    '{o:openings} I {act:activities.past} with {r:people}. [It was great.|We had a good time.|It was not easy.]',
    'I have a new {t:things}. It is {c:colors} and {ql:qualities}.|do you remember my {a:animals}? It can {a.can} now.',
    'will you visit me in {m:months}? We could {act2:activities}.|please write soon.',
    'yours, {p:people}',
  ],
  [
    'hello, I [bought|ordered] a {c:colors} {t:things} [last week|on {d:days}|in {m:months}], and I [have a question|need your help].',
    '[it is too small and I would like a bigger one|the color is wrong, I wanted a {c2:colors} one|it broke after {n:numbers} days|it has not come yet|I cannot open the box|it works very well and I love it].',
    '[what should I do?|can you tell me what to do?|please let me know.|please write to me soon.|thank you very much.]',
    '[best wishes|thank you|kind regards], {p:people}',
  ],
  [
    'hi {q:people}, I am [late|on the way|still at work]. [Please wait for me {pl:places.at}.|Can you buy some {me:meals}?|Can you feed the {a:animals}?|The key is {s:spots}.] [See you soon!|Thanks!|I will be there at {n:numbers}.] {p:people}',
  ],
  [
    'to all guests: the {x:tools} {pl:places.at} [is broken|does not work today|is only for {w:workers.plural}]. [Please use the other one.|It will be repaired on {d:days}.|We are sorry.]',
  ],
];

/** Who says what; `{p}` and `{q}` speak in turn. */
export const dialogues: readonly (readonly string[])[] = [
  [
    '{p:people}: [hello|hi|good morning] {q:people}, how are you?',
    '{q}: I am [fine|well|tired|{f:feelings}][, thank you. And you?|. And you?]',
    '{p}: I am {g:feelings} because {g.cause}.',
    '{q}: [I see.|Oh!|That is good to know.] Do you want to {act:activities}?',
    '{p}: [Yes, let us go.|No, thank you, I have no time.|Yes, but not today.]',
  ],
  [
    '{p:people}: where is my {c:colors} {t:things}?',
    '{q:people}: [it is {s:spots}.|I saw it {s:spots}.|look {s:spots}.]',
    '{p}: No, it is not there.',
    '{q}: Then look {s2:spots}.',
    '{p}: Here it is! Thank you, {q}.',
    '{q}: You are welcome.',
  ],
  [
    '{p:people}: what do you want to eat?',
    '{q:people}: I would like {m:meals} and a {f:foods}, please.',
    '{p}: And what do you want to drink?',
    '{q}: {dr:drinks}, please. How much is it?',
    '{p}: That is {n:numbers} coins.',
  ],
  [
    '{p:people}: what is a {x:tools}?',
    '{q:people}: A {x} is a thing to {x.use}.',
    '{p}: What is it made of?',
    '{q}: It is made of {x.material}.',
    '{p}: [Now I know.|Thank you.|Can I have one?]',
  ],
  [
    '{p:people}: what did you do on {d:days}?',
    '{q:people}: I {act:activities.past}. And you?',
    '{p}: I was {pl:places.at} with {r:people}. We {act2:activities.past}.',
    '{q}: [That sounds nice.|Was it fun?|I would like to do that, too.]',
  ],
  [
    '{p:people}: excuse me, how do I get to the {pl:places}?',
    '{q:people}: Go straight on, then turn [left|right] at the {pl2:places}.',
    '{p}: Is it far?',
    '{q}: No, it is only {n:numbers} minutes from here.',
    '{p}: Thank you very much!',
  ],
  [
    '{p:people}: which animal do you like best?',
    '{q:people}: I like {a:animals.plural}, because they can {a.can}.',
    '{p}: I like {b:animals.plural} better. They have {b.look}.',
    '{q}: What do they eat?',
    '{p}: They eat {b.food}.',
  ],
];

/** Sentences of no story: person, deed, thing, place, time and reason in all tenses. */
export const sentences: readonly string[] = [
  '{p:people} {v:handling.past} the {c:colors} {t:things} {s:spots}.',
  '{p:people} {v:handling.third} a {t:things} every {d:days}.',
  '{p:people} is {v:handling.ing} the {t:things} now.',
  '{p:people} has {v:handling.participle} the {t:things} already.',
  '{p:people} will {v:handling} the {t:things} tomorrow.',
  '{p:people} [did not|could not|wanted to|had to|forgot to] {v:handling} the {q:qualities} {t:things}.',
  'the {t:things} was {v:handling.participle} by {p:people} {tm:times}.',
  '{p:people} {i:intransitive.past} {m:manners} {pl:places.at}.',
  '{p:people} and {q:people} {i:intransitive.past} {pl:places.at} {tm:times}.',
  '{tm:times}, {p:people} {act:activities.past}[ with {r:people}|].',
  '{p:people} {act:activities.past} because {p.he} was {f:feelings}.',
  '{p:people} was {f:feelings} because {f.cause}.',
  '{w:weather.now}, so {p:people} [took {w.need}|stayed at home].',
  'when {p:people} came home, {q:people} was {act:activities.ing}.',
  'while {p:people} was {act:activities.ing}, {q:people} {act2:activities.past}.',
  'before {p:people} {act:activities.past}, {p.he} {act2:activities.past}.',
  'if {w:weather.today}, we [stay at home|do not go out|need {w.need}].',
  'although {p:people} was {f:feelings}, {p.he} {act:activities.past}.',
  'the {a:animals} {i:intransitive.past} {m:manners} {s:spots}.',
  'the {t:things} is {q:qualities}, but the {u:things} is {r:qualities}.',
  'there [is a|was a] {c:colors} {t:things} {s:spots}.',
  'there are {n:numbers} {t:things.plural} {s:spots}.',
  'I have {n:numbers} {f:foods.plural} and a {d:foods}.',
  'we {act:activities.past} {pl:places.at}, and then we ate {m:meals}.',
  'do you like {f:foods.plural}? [Yes, I do.|No, I do not.|I like {g:foods.plural} better.]',
  'can you {v:handling} the {t:things}, please?',
  'please [do not|] {v:handling} the {t:things} {s:spots}.',
  '"I {v:handling.past} your {t:things}," said {p:people} {m:manners}.',
  '"Where is the {t:things}?" asked {p:people}. "It is {s:spots}," said {q:people}.',
  '{p:people} is [older|younger|taller|stronger|faster] than {q:people}.',
  '{p:people}, {q:people} and {r:people} live in the same {pl:places}.',
  'the {w:workers} {v:handling.past} a {t:things} for {p:people}.',
  '{p:people} gave {q:people} a {c:colors} {t:things}, and {q.he} thanked {p.him}.',
  '{p:people} likes {a:animals.plural} more than {b:animals.plural}.',
];
