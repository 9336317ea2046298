package imapext

import "strings"

// kind is what one of Exchange's default folders holds.
type kind uint8

const (
	sent kind = iota
	drafts
	trash
	junk
	archive
	// From calendar on they hold no mail.
	calendar
	contacts
	tasks
	notes
	journal

	kinds
)

// useOf are the attributes of those kinds that have one.
var useOf = [...]string{sent: `\Sent`, drafts: `\Drafts`, trash: `\Trash`, junk: `\Junk`, archive: `\Archive`}

// language has the names of default folders in one language: several where versions of
// Exchange and Outlook differ.
type language struct {
	tag   string
	names [kinds][]string
}

// languages are those names. Exchange makes the folders in the language that a mailbox
// has when it is first opened, and all of one mailbox are of one language but for the
// archive, which Outlook makes when it is first used.
//
// Sources: a table with which Exchange administrators rename these folders
// (github.com/michelderooij/Fix-MailboxFolders) for Czech, Danish, Dutch, English, French,
// German, Italian, Japanese, Norwegian, Portuguese, Russian, Spanish and Swedish, but for
// archives; and for Bulgarian, Catalan, Croatian, Estonian, Greek, Hungarian, Indonesian, Latvian,
// Lithuanian, Romanian, Serbian, Slovak, Slovene, Thai, Turkish, Ukrainian, Vietnamese and
// Chinese what Microsoft's localised pages call the folder for sent mail. All other
// names are from Outlook's and Exchange's user interfaces as remembered, and not
// seen on a server: least sure are Arabic, Basque, Galician, Hebrew, Hindi, Malay and
// Persian. A name that is not right does no harm, since nothing is called so. The last
// entry has names that other servers and mail programs use.
var languages = []language{
	names("en", "Sent Items", "Drafts", "Deleted Items", "Junk Email|Junk E-mail", "Archive", "Calendar", "Contacts", "Tasks", "Notes", "Journal"),
	names("de", "Gesendete Elemente|Gesendete Objekte", "Entwürfe", "Gelöschte Elemente|Gelöschte Objekte", "Junk-E-Mail", "Archiv|Archivieren", "Kalender", "Kontakte", "Aufgaben", "Notizen", "Journal"),
	names("fr", "Éléments envoyés", "Brouillons", "Éléments supprimés", "Courrier indésirable", "Archive|Archives", "Calendrier", "Contacts", "Tâches", "Notes", "Journal"),
	names("es", "Elementos enviados", "Borradores", "Elementos eliminados", "Correo no deseado|Correo electrónico no deseado", "Archivo|Archivar", "Calendario", "Contactos", "Tareas", "Notas", "Diario"),
	names("it", "Posta inviata", "Bozze", "Posta eliminata", "Posta indesiderata", "Archivio|Archivia", "Calendario", "Contatti", "Attività", "Note", "Diario"),
	names("nl", "Verzonden items", "Concepten", "Verwijderde items", "Ongewenste e-mail", "Archief|Archiveren", "Agenda", "Contactpersonen|Contacten", "Taken", "Notities", "Journaal|Logboek"),
	names("pt-BR", "Itens Enviados", "Rascunhos", "Itens Excluídos", "Lixo Eletrônico", "Arquivo Morto|Arquivar|Arquivo", "Calendário", "Contatos", "Tarefas", "Anotações", "Diário"),
	names("pt-PT", "Itens Enviados", "Rascunhos", "Itens Eliminados", "E-mail de Lixo|Lixo Eletrónico|Correio Eletrónico Não Solicitado", "Arquivo", "Calendário", "Contactos", "Tarefas", "Notas", "Diário"),
	names("sv", "Skickat", "Utkast", "Borttaget", "Skräppost", "Arkiv|Arkivera", "Kalender", "Kontakter", "Uppgifter", "Anteckningar", "Journal"),
	names("da", "Sendt post|Sendt mail", "Kladder", "Slettet post", "Uønsket mail|Uønsket e-mail|Uønsket post", "Arkiv|Arkivér", "Kalender", "Kontakter|Kontaktpersoner", "Opgaver", "Noter", "Journal|Kladde"),
	names("nb", "Sendte elementer", "Kladd|Utkast", "Slettede elementer", "Søppelpost", "Arkiv|Arkiver", "Kalender", "Kontakter", "Oppgaver", "Notater", "Logg|Journal"),
	names("fi", "Lähetetyt|Lähetetyt kohteet", "Luonnokset", "Poistetut|Poistetut kohteet", "Roskaposti", "Arkisto|Arkistoi", "Kalenteri", "Yhteystiedot", "Tehtävät", "Muistilaput", "Päiväkirja"),
	names("pl", "Elementy wysłane", "Wersje robocze|Kopie robocze", "Elementy usunięte", "Wiadomości-śmieci", "Archiwum", "Kalendarz", "Kontakty", "Zadania", "Notatki", "Dziennik"),
	names("cs", "Odeslaná pošta", "Koncepty", "Odstraněná pošta", "Nevyžádaná pošta", "Archiv", "Kalendář", "Kontakty", "Úkoly|Úlohy", "Poznámky", "Deník"),
	names("sk", "Odoslaná pošta|Odoslané položky", "Koncepty", "Odstránená pošta|Odstránené položky", "Nevyžiadaná pošta|Nevyžiadaný e-mail", "Archív", "Kalendár", "Kontakty", "Úlohy", "Poznámky", "Denník"),
	names("hu", "Elküldött elemek", "Piszkozatok", "Törölt elemek", "Levélszemét", "Archívum", "Naptár", "Névjegyek|Névjegyalbum", "Feladatok", "Feljegyzések", "Napló"),
	names("ro", "Elemente trimise", "Schițe|Ciorne", "Elemente șterse", "E-mail nedorit|Poștă nedorită", "Arhivă", "Calendar", "Persoane de contact|Contacte", "Activități|Sarcini", "Note", "Jurnal"),
	names("bg", "Изпратени елементи|Изпратени", "Чернови", "Изтрити елементи|Изтрити", "Нежелана поща|Нежелани имейли", "Архив|Архивиране", "Календар", "Контакти", "Задачи", "Бележки", "Дневник"),
	names("hr", "Poslane stavke|Poslano", "Skice", "Izbrisane stavke|Izbrisano", "Bezvrijedna e-pošta|Neželjena e-pošta|Neželjena pošta", "Arhiva", "Kalendar", "Kontakti", "Zadaci", "Bilješke", "Dnevnik"),
	names("sr-Latn", "Poslate stavke", "Radne verzije", "Izbrisane stavke", "Bezvredna e-pošta|Neželjena pošta", "Arhiva", "Kalendar", "Kontakti", "Zadaci", "Beleške", "Dnevnik"),
	names("sr-Cyrl", "Послате ставке", "Радне верзије", "Избрисане ставке", "Безвредна е-пошта|Нежељена пошта", "Архива", "Календар", "Контакти", "Задаци", "Белешке", "Дневник"),
	names("sl", "Poslani predmeti|Poslano|Poslani elementi", "Osnutki", "Izbrisani predmeti|Izbrisano|Izbrisani elementi", "Neželena e-pošta|Neželena pošta", "Arhiv|Arhiviraj", "Koledar", "Stiki", "Opravila", "Opombe|Beležke", "Dnevnik"),
	names("et", "Saadetud üksused", "Mustandid", "Kustutatud üksused", "Rämpspost", "Arhiiv|Arhiivi", "Kalender", "Kontaktid", "Ülesanded", "Märkmed", "Päevik"),
	names("lv", "Nosūtītie vienumi|Nosūtītās ziņas", "Melnraksti", "Izdzēstie vienumi|Dzēstie vienumi", "Nevēlamais e-pasts|Nevēlams e-pasts|Mēstules", "Arhīvs|Arhivēt", "Kalendārs", "Kontaktpersonas", "Uzdevumi", "Piezīmes", "Žurnāls"),
	names("lt", "Išsiųsta|Išsiųsti elementai|Išsiųsti laiškai", "Juodraščiai", "Panaikinti elementai|Naikinti elementai", "Pašto šiukšlės|El. pašto šiukšlės|Nepageidaujami laiškai", "Archyvas|Archyvuoti", "Kalendorius", "Kontaktai|Adresatai", "Užduotys", "Pastabos", "Žurnalas"),
	names("el", "Απεσταλμένα", "Πρόχειρα", "Διαγραμμένα", "Ανεπιθύμητη αλληλογραφία|Ανεπιθύμητα", "Αρχειοθέτηση|Αρχείο", "Ημερολόγιο", "Επαφές", "Εργασίες", "Σημειώσεις", "Ημερολόγιο συμβάντων"),
	names("tr", "Gönderilmiş Öğeler", "Taslaklar", "Silinmiş Öğeler", "Önemsiz E-posta|Gereksiz E-posta", "Arşiv", "Takvim", "Kişiler", "Görevler", "Notlar", "Günlük"),
	names("ru", "Отправленные", "Черновики", "Удаленные", "Нежелательная почта", "Архив", "Календарь", "Контакты", "Задачи", "Заметки", "Дневник"),
	names("uk", "Надіслані|Надіслані елементи", "Чернетки", "Видалені|Видалені елементи", "Небажана пошта", "Архів", "Календар", "Контакти", "Завдання", "Нотатки|Примітки", "Щоденник|Журнал"),
	names("he", "פריטים שנשלחו", "טיוטות", "פריטים שנמחקו", "דואר זבל", "ארכיון", "לוח שנה", "אנשי קשר", "משימות", "פתקים", "יומן"),
	names("ar", "العناصر المرسلة", "المسودات|مسودات", "العناصر المحذوفة", "البريد الإلكتروني غير الهام|البريد غير الهام|البريد الإلكتروني العشوائي", "الأرشيف|أرشيف", "التقويم", "جهات الاتصال", "المهام", "الملاحظات", "دفتر اليومية"),
	names("fa", "موارد ارسال شده", "پیش\u200cنویس\u200cها|پیش نویس ها", "موارد حذف شده", "هرزنامه|نامه الکترونیکی ناخواسته", "بایگانی", "تقویم", "مخاطبین", "وظایف|کارها", "یادداشت\u200cها|یادداشت ها", "دفتر روزانه"),
	names("hi", "भेजे गए आइटम|भेजे गए आइटम्स", "ड्राफ़्ट|ड्राफ्ट", "हटाए गए आइटम|हटाए गए आइटम्स", "जंक ई-मेल|जंक ईमेल", "संग्रह|संग्रहीत करें", "कैलेंडर", "संपर्क", "कार्य", "नोट्स", "जर्नल"),
	names("th", "รายการที่ถูกส่ง|รายการที่ส่ง", "แบบร่าง", "รายการที่ถูกลบ", "อีเมลขยะ", "เก็บถาวร", "ปฏิทิน", "ที่ติดต่อ", "งาน", "บันทึกย่อ", "บันทึกประจำวัน"),
	names("vi", "Mục đã Gửi|Thư đã Gửi|Khoản mục đã Gửi", "Bản nháp|Thư nháp", "Mục đã Xóa|Khoản mục đã Xóa", "Email Rác|Thư Rác", "Lưu trữ", "Lịch", "Liên hệ", "Tác vụ|Nhiệm vụ", "Ghi chú", "Nhật ký"),
	names("id", "Item Terkirim", "Draf", "Item Dihapus", "Email Sampah", "Arsip", "Kalender", "Kontak", "Tugas", "Catatan", "Jurnal"),
	names("ms", "Item Dihantar", "Draf", "Item Dipadam|Item Dipadamkan", "E-mel Remeh|E-mel Sarap", "Arkib", "Kalendar", "Kenalan", "Tugas", "Nota", "Jurnal"),
	names("ja", "送信済みアイテム", "下書き", "削除済みアイテム", "迷惑メール", "アーカイブ", "予定表", "連絡先", "タスク|仕事", "メモ", "履歴"),
	names("ko", "보낸 편지함", "임시 보관함", "지운 편지함", "정크 메일|정크 전자 메일", "보관|보관함|보관 파일", "일정", "연락처", "작업", "메모", "업무 일지|업무일지"),
	names("zh-CN", "已发送邮件", "草稿", "已删除邮件", "垃圾邮件", "存档", "日历", "联系人", "任务", "便笺|备忘录", "日记"),
	names("zh-TW", "寄件備份|寄件項目", "草稿", "刪除的郵件|已刪除項目", "垃圾郵件", "封存", "行事曆", "連絡人", "工作", "記事|附註", "日誌"),
	names("ca", "Elements enviats", "Esborranys", "Elements suprimits", "Correu brossa", "Arxiu|Arxiva", "Calendari", "Contactes", "Tasques", "Notes", "Diari"),
	names("eu", "Bidalitako elementuak", "Zirriborroak", "Ezabatutako elementuak", "Zabor-posta|Zabor posta", "Artxiboa", "Egutegia", "Kontaktuak", "Zereginak", "Oharrak", "Egunkaria"),
	names("gl", "Elementos enviados", "Borradores", "Elementos eliminados", "Correo lixo", "Arquivo", "Calendario", "Contactos", "Tarefas", "Notas", "Diario"),
	names("other", "Sent|Sent Messages|Sent Mail", "Drafts", "Trash|Deleted Messages", "Junk|Spam", "Archive|Archives", "", "", "", "", ""),
}

// names makes a language of names, in the order of kinds.
func names(tag string, texts ...string) language {
	l := language{tag: tag}
	for k, text := range texts {
		if text != "" {
			l.names[k] = strings.Split(text, "|")
		}
	}
	return l
}

// wellKnown are all these names, in lower case.
var wellKnown = func() map[string]bool {
	all := make(map[string]bool)
	for _, l := range languages {
		for _, list := range l.names {
			for _, name := range list {
				all[strings.ToLower(name)] = true
			}
		}
	}
	return all
}()
